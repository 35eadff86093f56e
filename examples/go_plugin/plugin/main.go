// The plugin, in Go: a key/value store in memory.
package main

import (
	"context"
	"sync"

	"github.com/hashicorp/go-plugin"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"example/kvpb"
	"example/shared"
)

type store struct {
	kvpb.UnimplementedKVServer
	values sync.Map
}

func (s *store) Get(_ context.Context, request *kvpb.GetRequest) (*kvpb.GetResponse, error) {
	value, found := s.values.Load(request.Key)
	if !found {
		return nil, status.Errorf(codes.NotFound, "no key %q", request.Key)
	}
	return &kvpb.GetResponse{Value: value.([]byte)}, nil
}

func (s *store) Put(_ context.Context, request *kvpb.PutRequest) (*kvpb.Empty, error) {
	s.values.Store(request.Key, request.Value)
	return &kvpb.Empty{}, nil
}

func main() {
	register := func(server *grpc.Server) { kvpb.RegisterKVServer(server, &store{}) }
	plugin.Serve(&plugin.ServeConfig{
		HandshakeConfig: shared.Handshake,
		Plugins:         plugin.PluginSet{"kv": shared.KV{Register: register}},
		GRPCServer:      plugin.DefaultGRPCServer,
	})
}
