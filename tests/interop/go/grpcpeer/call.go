package main

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"io"
	"strings"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/encoding/gzip"
	"google.golang.org/grpc/metadata"
	grpcstatus "google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
)

type part struct {
	Text string `json:"text"`
	Size *int   `json:"size"`
}

func (p part) data() []byte {
	if p.Size != nil {
		return pattern(*p.Size)
	}
	return []byte(p.Text)
}

type told struct {
	Method      string      `json:"method"`
	Target      string      `json:"target"`
	Channel     string      `json:"channel"`
	TLS         string      `json:"tls"`
	Requests    []part      `json:"requests"`
	Metadata    [][2]string `json:"metadata"`
	Timeout     float64     `json:"timeout"`
	Gzip        bool        `json:"gzip"`
	InTurn      bool        `json:"in_turn"`
	CancelAfter *int        `json:"cancel_after"`
	Parallel    int         `json:"parallel"`
	Close       bool        `json:"close"`
}

type result struct {
	Code     uint32      `json:"code"`
	Message  string      `json:"message"`
	Details  []byte      `json:"details,omitempty"`
	Received [][2]int    `json:"received"`
	Initial  [][2]string `json:"initial"`
	Trailing [][2]string `json:"trailing"`
}

func connect(t told) *grpc.ClientConn {
	with := insecure.NewCredentials()
	if t.TLS != "" {
		with = secrets(t.TLS)
	}
	big := grpc.WithDefaultCallOptions(
		grpc.ForceCodec(codec{}), grpc.MaxCallRecvMsgSize(1<<30), grpc.MaxCallSendMsgSize(1<<30))
	target := t.Target
	if !strings.HasPrefix(target, "unix:") {
		target = "passthrough:///" + target
	}
	connection, err := grpc.NewClient(target, grpc.WithTransportCredentials(with), big)
	check(err)
	return connection
}

func fields(found metadata.MD) [][2]string {
	list := [][2]string{}
	for key, values := range found {
		for _, value := range values {
			if strings.HasSuffix(key, "-bin") {
				value = base64.StdEncoding.EncodeToString([]byte(value))
			}
			if strings.HasPrefix(key, "x-") {
				list = append(list, [2]string{key, value})
			}
		}
	}
	return list
}

func outgoing(t told) (context.Context, context.CancelFunc) {
	ctx := context.Background()
	for _, field := range t.Metadata {
		value := field[1]
		if strings.HasSuffix(field[0], "-bin") {
			decoded, err := base64.StdEncoding.DecodeString(value)
			check(err)
			value = string(decoded)
		}
		ctx = metadata.AppendToOutgoingContext(ctx, field[0], value)
	}
	if t.Timeout > 0 {
		return context.WithTimeout(ctx, time.Duration(t.Timeout*float64(time.Second)))
	}
	return context.WithCancel(ctx)
}

func call(connection *grpc.ClientConn, t told) result {
	ctx, cancel := outgoing(t)
	defer cancel()
	var options []grpc.CallOption
	if t.Gzip {
		options = append(options, grpc.UseCompressor(gzip.Name))
	}
	description := &grpc.StreamDesc{
		ClientStreams: t.Method == "Up" || t.Method == "Relay" || t.Method == "Follow",
		ServerStreams: t.Method == "Down" || t.Method == "Relay" || t.Method == "Follow",
	}
	found := result{Received: [][2]int{}}
	stream, err := connection.NewStream(ctx, description, "/interop.Peer/"+t.Method, options...)
	if err == nil {
		err = exchange(stream, t, cancel, &found)
		header, _ := stream.Header()
		found.Initial, found.Trailing = fields(header), fields(stream.Trailer())
	}
	if !errors.Is(err, io.EOF) {
		status := grpcstatus.Convert(err)
		found.Code, found.Message = uint32(status.Code()), status.Message()
		if len(status.Details()) > 0 {
			found.Details, err = proto.Marshal(status.Proto())
			check(err)
		}
	}
	return found
}

// exchange sends and receives all there is; io.EOF says that all is well.
func exchange(stream grpc.ClientStream, t told, cancel context.CancelFunc, found *result) error {
	receive := func() error {
		var reply raw
		if err := stream.RecvMsg(&reply); err != nil {
			return err
		}
		found.Received = append(found.Received, [2]int{len(reply.data), int(checksum(0, reply.data))})
		if t.CancelAfter != nil && *t.CancelAfter == len(found.Received) {
			cancel()
		}
		return nil
	}
	for _, request := range t.Requests {
		if err := stream.SendMsg(&raw{request.data()}); err != nil && !errors.Is(err, io.EOF) {
			return err
		}
		if t.InTurn {
			if err := receive(); err != nil {
				return err
			}
		}
	}
	if t.CancelAfter == nil {
		if err := stream.CloseSend(); err != nil {
			return err
		}
	} else if *t.CancelAfter == 0 {
		say("begun")
		time.Sleep(50 * time.Millisecond)
		cancel()
	}
	for {
		if err := receive(); err != nil {
			return err
		}
	}
}

// callAll makes the calls that are told, those of one line at once.
func callAll() {
	connections := map[string]*grpc.ClientConn{}
	for input := lines(); input.Scan(); {
		t := told{Parallel: 1}
		check(json.Unmarshal(input.Bytes(), &t))
		if connections[t.Channel] == nil {
			connections[t.Channel] = connect(t)
		}
		results := make([]result, t.Parallel)
		var wait sync.WaitGroup
		for at := range results {
			wait.Go(func() { results[at] = call(connections[t.Channel], t) })
		}
		wait.Wait()
		say(results)
		if t.Close {
			check(connections[t.Channel].Close())
			delete(connections, t.Channel)
		}
	}
}
