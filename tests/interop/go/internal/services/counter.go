package services

import (
	"context"
	"sync"

	plugin "github.com/hashicorp/go-plugin"
	"google.golang.org/grpc"
	"google.golang.org/protobuf/types/known/emptypb"

	"interop/internal/interoppb"
)

// Counter has the host add up its values, and lends an Adder of its own.
type Counter struct {
	broker *plugin.GRPCBroker
	lock   sync.Mutex
	values map[string]int64
}

// RegisterCounter adds a new counter.
func RegisterCounter(broker *plugin.GRPCBroker, server grpc.ServiceRegistrar) {
	interoppb.RegisterCounterServer(server, &Counter{broker: broker, values: map[string]int64{}})
}

// Put replaces a value by what the caller's Adder says of the old and the new one.
func (c *Counter) Put(ctx context.Context, request *interoppb.CounterPut) (*emptypb.Empty, error) {
	conn, err := c.broker.Dial(request.Adder)
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	c.lock.Lock()
	defer c.lock.Unlock()
	sum, err := interoppb.NewAdderClient(conn).Add(ctx, &interoppb.Pair{A: c.values[request.Key], B: request.Value})
	if err != nil {
		return nil, err
	}
	c.values[request.Key] = sum.Value
	return &emptypb.Empty{}, nil
}

// Get returns a value, zero at first.
func (c *Counter) Get(_ context.Context, request *interoppb.CounterKey) (*interoppb.CounterValue, error) {
	c.lock.Lock()
	defer c.lock.Unlock()
	return &interoppb.CounterValue{Value: c.values[request.Key]}, nil
}

// Lend serves an Adder on the broker and says under which id.
func (c *Counter) Lend(context.Context, *emptypb.Empty) (*interoppb.Offer, error) {
	id := c.broker.NextId()
	go c.broker.AcceptAndServe(id, func(options []grpc.ServerOption) *grpc.Server {
		server := grpc.NewServer(options...)
		interoppb.RegisterAdderServer(server, Adder{})
		return server
	})
	return &interoppb.Offer{ServiceId: id}, nil
}

// Adder adds.
type Adder struct{}

// Add returns the sum.
func (Adder) Add(_ context.Context, pair *interoppb.Pair) (*interoppb.CounterValue, error) {
	return &interoppb.CounterValue{Value: pair.A + pair.B}, nil
}
