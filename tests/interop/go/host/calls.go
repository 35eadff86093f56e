package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/emptypb"

	"interop/internal/interoppb"
	"interop/internal/kvpb"
	"interop/internal/services"
)

// exerciseKV puts and gets values, and one that is not there.
func exerciseKV(s *session) {
	kv := kvpb.NewKVClient(s.connection("kv").Conn)
	value := bytes.Repeat([]byte("v"), s.settings.size)
	s.call("put", func(ctx context.Context) (fields, error) {
		_, err := kv.Put(ctx, &kvpb.PutRequest{Key: "greeting", Value: value})
		return nil, err
	})
	s.call("get", func(ctx context.Context) (fields, error) {
		answer, err := kv.Get(ctx, &kvpb.GetRequest{Key: "greeting"})
		return fields{"size": len(answer.GetValue()), "same": bytes.Equal(answer.GetValue(), value)}, err
	})
	s.call("get missing", func(ctx context.Context) (fields, error) {
		_, err := kv.Get(ctx, &kvpb.GetRequest{Key: "missing"})
		return expect(codes.NotFound, err)
	})
}

// exerciseCounter has the plugin call back for every sum.
func exerciseCounter(s *session) {
	connection := s.connection("counter")
	counter := interoppb.NewCounterClient(connection.Conn)
	for number := range s.settings.calls {
		s.call("put", func(ctx context.Context) (fields, error) {
			id := connection.Broker.NextId()
			// Given from another goroutine, and never if the broker is closed.
			served := make(chan *grpc.Server, 1)
			go connection.Broker.AcceptAndServe(id, func(options []grpc.ServerOption) *grpc.Server {
				server := grpc.NewServer(options...)
				interoppb.RegisterAdderServer(server, services.Adder{})
				served <- server
				return server
			})
			_, err := counter.Put(ctx, &interoppb.CounterPut{Adder: id, Key: "sum", Value: int64(number + 1)})
			select {
			case server := <-served:
				server.Stop()
			default:
			}
			return fields{"broker_id": id}, err
		})
	}
	s.call("get", func(ctx context.Context) (fields, error) {
		answer, err := counter.Get(ctx, &interoppb.CounterKey{Key: "sum"})
		return fields{"value": answer.GetValue()}, err
	})
}

// exerciseLend calls what the plugin offers through the broker.
func exerciseLend(s *session) {
	connection := s.connection("counter")
	counter := interoppb.NewCounterClient(connection.Conn)
	for number := range s.settings.calls {
		s.call("lend", func(ctx context.Context) (fields, error) {
			offer, err := counter.Lend(ctx, &emptypb.Empty{})
			if err != nil {
				return nil, err
			}
			conn, err := connection.Broker.Dial(offer.ServiceId)
			if err != nil {
				return fields{"broker_id": offer.ServiceId}, err
			}
			defer conn.Close()
			sum, err := interoppb.NewAdderClient(conn).Add(ctx, &interoppb.Pair{A: 40, B: int64(number)})
			return fields{"broker_id": offer.ServiceId, "value": sum.GetValue()}, err
		})
	}
}

// exerciseNobody dials what the plugin does not offer.
func exerciseNobody(s *session) {
	connection := s.connection("counter")
	s.call("dial nobody", func(ctx context.Context) (fields, error) {
		conn, err := connection.Broker.Dial(4711)
		if err == nil {
			// Multiplexed, the broker knocks at the first call only.
			defer conn.Close()
			_, err = interoppb.NewAdderClient(conn).Add(ctx, &interoppb.Pair{})
		}
		if err == nil {
			return nil, errors.New("somebody is there")
		}
		return fields{"text": err.Error()}, nil
	})
}

// exerciseStreaming makes calls of every shape.
func exerciseStreaming(s *session) {
	streaming := interoppb.NewStreamingClient(s.connection("streaming").Conn)
	s.call("count", func(ctx context.Context) (fields, error) { return count(ctx, streaming, s.settings) })
	s.call("sum", func(ctx context.Context) (fields, error) { return sum(ctx, streaming, s.settings) })
	s.call("echo", func(ctx context.Context) (fields, error) { return echo(ctx, streaming, s.settings) })
	s.call("fail", func(ctx context.Context) (fields, error) {
		text := "ünïcode, 100% and a\nnewline"
		_, err := streaming.Fail(ctx, &interoppb.Failure{Code: uint32(codes.DataLoss), Message: text})
		if status.Convert(err).Message() != text {
			return nil, fmt.Errorf("the message became %q", status.Convert(err).Message())
		}
		return expect(codes.DataLoss, err)
	})
	s.call("cancel", func(ctx context.Context) (fields, error) {
		hanging, cancel := context.WithCancel(ctx)
		defer cancel()
		go func() {
			// One answer later the call that hangs has been sent, most likely.
			_, _ = streaming.Hung(ctx, &emptypb.Empty{})
			cancel()
		}()
		_, err := streaming.Hang(hanging, &interoppb.Item{})
		return expect(codes.Canceled, err)
	})
	s.call("hung", func(ctx context.Context) (fields, error) {
		answer, err := streaming.Hung(ctx, &emptypb.Empty{})
		return fields{"number": answer.GetNumber()}, err
	})
	s.call("unknown method", func(ctx context.Context) (fields, error) {
		err := s.connection("streaming").Conn.Invoke(ctx, "/interop.Streaming/Nothing", &emptypb.Empty{}, &emptypb.Empty{})
		return expect(codes.Unimplemented, err)
	})
}

func count(ctx context.Context, streaming interoppb.StreamingClient, settings *settings) (fields, error) {
	request := &interoppb.CountRequest{Count: int64(settings.calls), Size: int64(settings.size)}
	// Metadata has to be taken and ignored.
	ctx = metadata.AppendToOutgoingContext(ctx, "interop-text", "x", "interop-bin", "\x00\xff")
	stream, err := streaming.Count(ctx, request)
	if err != nil {
		return nil, err
	}
	received, size := 0, 0
	for {
		item, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			return fields{"received": received, "bytes": size}, nil
		}
		if err != nil {
			return fields{"received": received}, err
		}
		if item.Number != int64(received) {
			return nil, fmt.Errorf("got %d instead of %d", item.Number, received)
		}
		received++
		size += len(item.Payload)
	}
}

func sum(ctx context.Context, streaming interoppb.StreamingClient, settings *settings) (fields, error) {
	stream, err := streaming.Sum(ctx)
	if err != nil {
		return nil, err
	}
	payload := make([]byte, settings.size)
	for number := range settings.calls {
		if err := stream.Send(&interoppb.Item{Number: int64(number), Payload: payload}); err != nil {
			return nil, err
		}
	}
	total, err := stream.CloseAndRecv()
	return fields{"number": total.GetNumber(), "bytes": len(total.GetPayload())}, err
}

func echo(ctx context.Context, streaming interoppb.StreamingClient, settings *settings) (fields, error) {
	stream, err := streaming.Echo(ctx)
	if err != nil {
		return nil, err
	}
	payload := make([]byte, settings.size)
	for number := range settings.calls {
		if err := stream.Send(&interoppb.Item{Number: int64(number), Payload: payload}); err != nil {
			return nil, err
		}
		item, err := stream.Recv()
		if err != nil {
			return fields{"echoed": number}, err
		}
		if item.Number != int64(number) || len(item.Payload) != settings.size {
			return nil, fmt.Errorf("got item %d of %d bytes", item.Number, len(item.Payload))
		}
	}
	if err := stream.CloseSend(); err != nil {
		return nil, err
	}
	if _, err := stream.Recv(); !errors.Is(err, io.EOF) {
		return nil, fmt.Errorf("the end of the stream is %w", err)
	}
	return fields{"echoed": settings.calls}, nil
}

// exerciseTwo calls both interfaces in the version that was negotiated.
func exerciseTwo(s *session) {
	s.call("greet", func(ctx context.Context) (fields, error) {
		greeter := interoppb.NewGreeterClient(s.connection("greeter").Conn)
		answer, err := greeter.Greet(ctx, &interoppb.Name{Name: "Ada"})
		return fields{"text": answer.GetText()}, err
	})
	exerciseKV(s)
}

// expect is a step whose call has to fail with the code.
func expect(code codes.Code, err error) (fields, error) {
	state := status.Convert(err)
	if state.Code() != code {
		return nil, fmt.Errorf("status %s instead of %s: %s", state.Code(), code, state.Message())
	}
	return fields{"text": state.Message()}, nil
}
