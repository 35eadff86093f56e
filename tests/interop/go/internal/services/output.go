package services

import (
	"context"
	"os"
	"syscall"

	"github.com/hashicorp/go-hclog"
	plugin "github.com/hashicorp/go-plugin"
	"google.golang.org/grpc"
	"google.golang.org/protobuf/types/known/emptypb"

	"interop/internal/interoppb"
)

// Stdio prints.
type Stdio struct{}

// RegisterStdio adds the service.
func RegisterStdio(_ *plugin.GRPCBroker, server grpc.ServiceRegistrar) {
	interoppb.RegisterStdioServer(server, Stdio{})
}

// Print writes to os.Stdout and os.Stderr, which go-plugin has replaced by pipes to the host.
func (Stdio) Print(_ context.Context, prints *interoppb.Prints) (*emptypb.Empty, error) {
	if _, err := os.Stdout.Write(prints.Stdout); err != nil {
		return nil, err
	}
	if _, err := os.Stderr.Write(prints.Stderr); err != nil {
		return nil, err
	}
	return &emptypb.Empty{}, nil
}

// Logs logs by hclog, to the real stderr.
type Logs struct {
	logger hclog.Logger
}

// RegisterLogs returns what adds the service; the logger must have been made before os.Stderr was replaced.
func RegisterLogs(logger hclog.Logger) Register {
	return func(_ *plugin.GRPCBroker, server grpc.ServiceRegistrar) {
		interoppb.RegisterLogsServer(server, Logs{logger})
	}
}

// Log logs one line.
func (l Logs) Log(_ context.Context, line *interoppb.LogLine) (*emptypb.Empty, error) {
	var pairs []any
	for key, value := range line.Fields {
		pairs = append(pairs, key, value)
	}
	l.logger.Log(hclog.LevelFromString(line.Level), line.Message, pairs...)
	return &emptypb.Empty{}, nil
}

// Raw writes to descriptors 1 and 2, past what go-plugin replaced.
func (Logs) Raw(_ context.Context, prints *interoppb.Prints) (*emptypb.Empty, error) {
	for descriptor, data := range map[int][]byte{1: prints.Stdout, 2: prints.Stderr} {
		if err := WriteAll(descriptor, data); err != nil {
			return nil, err
		}
	}
	return &emptypb.Empty{}, nil
}

// Panic ends the process, from a goroutine, where nobody can recover.
func (Logs) Panic(_ context.Context, name *interoppb.Name) (*emptypb.Empty, error) {
	go panic(name.Name)
	select {}
}

// WriteAll writes to a descriptor of the process, whatever os.Stdout and os.Stderr are.
func WriteAll(descriptor int, data []byte) error {
	for len(data) > 0 {
		written, err := syscall.Write(descriptor, data)
		if err != nil {
			return err
		}
		data = data[written:]
	}
	return nil
}
