package main

import (
	"bytes"
	"context"

	plugin "github.com/hashicorp/go-plugin"
	"github.com/hashicorp/go-plugin/examples/grpc/proto"
	"google.golang.org/grpc"
)

var value = bytes.Repeat([]byte("v"), 100)

// kv is go-plugin's `Plugin` for the key/value store of its own example, on either side.
type kv struct {
	plugin.NetRPCUnsupportedPlugin
}

func (kv) GRPCServer(_ *plugin.GRPCBroker, server *grpc.Server) error {
	proto.RegisterKVServer(server, store{})
	return nil
}

func (kv) GRPCClient(_ context.Context, _ *plugin.GRPCBroker, conn *grpc.ClientConn) (any, error) {
	return proto.NewKVClient(conn), nil
}

// A store has one value: the call is measured and not the store.
type store struct{}

func (store) Get(context.Context, *proto.GetRequest) (*proto.GetResponse, error) {
	return &proto.GetResponse{Value: value}, nil
}

func (store) Put(context.Context, *proto.PutRequest) (*proto.Empty, error) {
	return &proto.Empty{}, nil
}
