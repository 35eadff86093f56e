package services

import (
	"context"
	"errors"
	"io"
	"sync/atomic"

	plugin "github.com/hashicorp/go-plugin"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/emptypb"

	"interop/internal/interoppb"
)

// Streaming has one method of each shape.
type Streaming struct {
	hung atomic.Int64
}

// RegisterStreaming adds the service.
func RegisterStreaming(_ *plugin.GRPCBroker, server grpc.ServiceRegistrar) {
	interoppb.RegisterStreamingServer(server, &Streaming{})
}

// Count sends 0, 1, 2 … with a payload of the wanted size each.
func (s *Streaming) Count(
	request *interoppb.CountRequest, stream grpc.ServerStreamingServer[interoppb.Item],
) error {
	payload := make([]byte, request.Size)
	for number := range request.Count {
		if err := stream.Send(&interoppb.Item{Number: number, Payload: payload}); err != nil {
			return err
		}
	}
	return nil
}

// Sum adds the numbers and joins the payloads.
func (s *Streaming) Sum(stream grpc.ClientStreamingServer[interoppb.Item, interoppb.Item]) error {
	total := &interoppb.Item{}
	for {
		item, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			return stream.SendAndClose(total)
		}
		if err != nil {
			return err
		}
		total.Number += item.Number
		total.Payload = append(total.Payload, item.Payload...)
	}
}

// Echo sends back every item as it comes.
func (s *Streaming) Echo(stream grpc.BidiStreamingServer[interoppb.Item, interoppb.Item]) error {
	for {
		item, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		if err := stream.Send(item); err != nil {
			return err
		}
	}
}

// Fail fails as told.
func (s *Streaming) Fail(_ context.Context, failure *interoppb.Failure) (*interoppb.Item, error) {
	return nil, status.Error(codes.Code(failure.Code), failure.Message)
}

// Hang waits until the caller gives up.
func (s *Streaming) Hang(ctx context.Context, _ *interoppb.Item) (*interoppb.Item, error) {
	<-ctx.Done()
	s.hung.Add(1)
	return nil, status.FromContextError(ctx.Err()).Err()
}

// Hung says how many calls of Hang were given up on.
func (s *Streaming) Hung(context.Context, *emptypb.Empty) (*interoppb.Item, error) {
	return &interoppb.Item{Number: s.hung.Load()}, nil
}
