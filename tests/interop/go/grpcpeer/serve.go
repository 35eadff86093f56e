package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"time"

	"google.golang.org/genproto/googleapis/rpc/status"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/encoding/gzip"
	"google.golang.org/grpc/metadata"
	grpcstatus "google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
)

const patience = 5 * time.Second

// peer remembers which hanging calls have ended.
type peer struct {
	lock  sync.Mutex
	ended map[string]chan struct{}
}

func (p *peer) end(token []byte) chan struct{} {
	p.lock.Lock()
	defer p.lock.Unlock()
	if p.ended[string(token)] == nil {
		p.ended[string(token)] = make(chan struct{})
	}
	return p.ended[string(token)]
}

func (p *peer) hang(ctx context.Context, token []byte) error {
	<-ctx.Done()
	close(p.end(token))
	return ctx.Err()
}

func (p *peer) echo(ctx context.Context, stream grpc.ServerStream, request []byte) ([]byte, error) {
	received, _ := metadata.FromIncomingContext(ctx)
	back := metadata.MD{}
	for key, values := range received {
		if strings.HasPrefix(key, "x-") && key != "x-zip" {
			back[key] = values
		}
	}
	if len(received["x-zip"]) > 0 {
		if err := grpc.SetSendCompressor(ctx, gzip.Name); err != nil {
			return nil, err
		}
	}
	if err := stream.SendHeader(back); err != nil {
		return nil, err
	}
	stream.SetTrailer(back)
	return request, nil
}

func (p *peer) fail(request []byte) error {
	var said struct {
		Code    uint32 `json:"code"`
		Message string `json:"message"`
		Details []byte `json:"details"`
	}
	if err := json.Unmarshal(request, &said); err != nil {
		return err
	}
	if len(said.Details) > 0 {
		var full status.Status
		if err := proto.Unmarshal(said.Details, &full); err != nil {
			return err
		}
		return grpcstatus.FromProto(&full).Err()
	}
	return grpcstatus.Error(codes.Code(said.Code), said.Message)
}

func left(ctx context.Context) []byte {
	at, has := ctx.Deadline()
	if !has {
		return []byte("none")
	}
	return []byte(strconv.FormatInt(time.Until(at).Milliseconds(), 10))
}

// unary answers one request.
func (p *peer) unary(method string, stream grpc.ServerStream, request []byte) ([]byte, error) {
	ctx := stream.Context()
	switch method {
	case "Echo":
		return p.echo(ctx, stream, request)
	case "Fail":
		return nil, p.fail(request)
	case "Hang":
		return nil, p.hang(ctx, request)
	case "Left":
		return left(ctx), nil
	}
	select { // Ended
	case <-p.end(request):
		return []byte("cancelled"), nil
	case <-time.After(patience):
		return nil, nil
	}
}

func down(stream grpc.ServerStream, request []byte) error {
	count, size, _ := bytes.Cut(request, []byte(":"))
	many, err := strconv.Atoi(string(count))
	if err != nil {
		return err
	}
	long, err := strconv.Atoi(string(size))
	if err != nil {
		return err
	}
	for range many {
		if err := stream.SendMsg(&raw{pattern(long)}); err != nil {
			return err
		}
	}
	return nil
}

func up(stream grpc.ServerStream) error {
	count, size, sum := 0, 0, uint32(0)
	for {
		var message raw
		err := stream.RecvMsg(&message)
		if err == io.EOF {
			return stream.SendMsg(&raw{fmt.Appendf(nil, "%d:%d:%d", count, size, sum)})
		}
		if err != nil {
			return err
		}
		count, size, sum = count+1, size+len(message.data), checksum(sum, message.data)
	}
}

func relay(stream grpc.ServerStream) error {
	for {
		var message raw
		err := stream.RecvMsg(&message)
		switch {
		case err == io.EOF:
			return nil
		case err != nil:
			return err
		case string(message.data) == "stop":
			return nil
		case string(message.data) == "fail":
			return grpcstatus.Error(codes.Aborted, "enough")
		}
		if err := stream.SendMsg(&message); err != nil {
			return err
		}
	}
}

// handle serves every method there is.
func (p *peer) handle(_ any, stream grpc.ServerStream) error {
	full, _ := grpc.MethodFromServerStream(stream)
	method := strings.TrimPrefix(full, "/interop.Peer/")
	switch method {
	case "Up":
		return up(stream)
	case "Relay":
		return relay(stream)
	case "Echo", "Fail", "Hang", "Left", "Ended", "Down", "Follow":
	default:
		return grpcstatus.Error(codes.Unimplemented, "unknown method "+full)
	}
	var request raw
	if err := stream.RecvMsg(&request); err != nil {
		return err
	}
	switch method {
	case "Down":
		return down(stream, request.data)
	case "Follow":
		if err := stream.SendMsg(&raw{[]byte("begun")}); err != nil {
			return err
		}
		return p.hang(stream.Context(), request.data)
	}
	reply, err := p.unary(method, stream, request.data)
	if err != nil {
		return err
	}
	return stream.SendMsg(&raw{reply})
}

func serve(folder string) {
	p := &peer{ended: map[string]chan struct{}{}}
	options := []grpc.ServerOption{
		grpc.ForceServerCodec(codec{}),
		grpc.UnknownServiceHandler(p.handle),
		grpc.MaxRecvMsgSize(1 << 30),
		grpc.MaxSendMsgSize(1 << 30),
	}
	places := map[string]string{}
	var servers []*grpc.Server
	start := func(name, network, address string, more ...grpc.ServerOption) {
		listener, err := net.Listen(network, address)
		check(err)
		places[name] = address
		if network == "tcp" {
			places[name] = strconv.Itoa(listener.Addr().(*net.TCPAddr).Port)
		}
		server := grpc.NewServer(append(append([]grpc.ServerOption{}, options...), more...)...)
		servers = append(servers, server)
		go func() { check(server.Serve(listener)) }()
	}
	start("unix", "unix", filepath.Join(folder, "all"))
	start("few", "unix", filepath.Join(folder, "few"), grpc.MaxConcurrentStreams(10), grpc.MaxHeaderListSize(8192))
	start("tcp", "tcp", "127.0.0.1:0")
	start("tls", "tcp", "127.0.0.1:0", grpc.Creds(secrets(folder)))
	say(places)
	for input := lines(); input.Scan(); {
		if input.Text() == "drain" {
			for _, server := range servers {
				go server.GracefulStop()
			}
		}
	}
}
