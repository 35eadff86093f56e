package services

import (
	"context"
	"sync"

	plugin "github.com/hashicorp/go-plugin"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"interop/internal/kvpb"
)

// KV keeps values in memory.
type KV struct {
	values sync.Map
}

// RegisterKV adds a new store.
func RegisterKV(_ *plugin.GRPCBroker, server grpc.ServiceRegistrar) {
	kvpb.RegisterKVServer(server, &KV{})
}

// Get returns the value of a key, or NOT_FOUND.
func (kv *KV) Get(_ context.Context, request *kvpb.GetRequest) (*kvpb.GetResponse, error) {
	value, found := kv.values.Load(request.Key)
	if !found {
		return nil, status.Errorf(codes.NotFound, "no key %q", request.Key)
	}
	return &kvpb.GetResponse{Value: value.([]byte)}, nil
}

// Put sets the value of a key.
func (kv *KV) Put(_ context.Context, request *kvpb.PutRequest) (*kvpb.Empty, error) {
	kv.values.Store(request.Key, request.Value)
	return &kvpb.Empty{}, nil
}
