package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"strings"
	"syscall"
	"time"

	plugin "github.com/hashicorp/go-plugin"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/status"

	"interop/internal/services"
)

const shutdown = "/plugin.GRPCController/Shutdown"

// serveIntercepted serves the kv plugin behind interceptors, which see go-plugin's own services too.
func serveIntercepted(unary grpc.UnaryServerInterceptor, stream grpc.StreamServerInterceptor) {
	plugin.Serve(&plugin.ServeConfig{
		HandshakeConfig: services.Handshake,
		Plugins:         services.Set(kv),
		GRPCServer: func(options []grpc.ServerOption) *grpc.Server {
			if unary != nil {
				options = append(options, grpc.UnaryInterceptor(unary))
			}
			if stream != nil {
				options = append(options, grpc.StreamInterceptor(stream))
			}
			return grpc.NewServer(options...)
		},
	})
}

// serveNotServing answers health checks, by NOT_SERVING.
func serveNotServing([]string) {
	answer := &grpc_health_v1.HealthCheckResponse{Status: grpc_health_v1.HealthCheckResponse_NOT_SERVING}
	serveIntercepted(
		func(ctx context.Context, request any, info *grpc.UnaryServerInfo, next grpc.UnaryHandler) (any, error) {
			if info.FullMethod == grpc_health_v1.Health_Check_FullMethodName {
				return answer, nil
			}
			return next(ctx, request)
		},
		func(server any, stream grpc.ServerStream, info *grpc.StreamServerInfo, next grpc.StreamHandler) error {
			if info.FullMethod != grpc_health_v1.Health_Watch_FullMethodName {
				return next(server, stream)
			}
			if err := stream.SendMsg(answer); err != nil {
				return err
			}
			<-stream.Context().Done()
			return nil
		},
	)
}

// serveWithout leaves out one of go-plugin's own services: GRPCBroker, GRPCController, GRPCStdio or Health.
func serveWithout(arguments []string) {
	part := "." + argument(arguments, "GRPCStdio") + "/"
	refusal := status.Error(codes.Unimplemented, "this plugin does not have that")
	serveIntercepted(
		func(ctx context.Context, request any, info *grpc.UnaryServerInfo, next grpc.UnaryHandler) (any, error) {
			if strings.Contains(info.FullMethod, part) {
				return nil, refusal
			}
			return next(ctx, request)
		},
		func(server any, stream grpc.ServerStream, info *grpc.StreamServerInfo, next grpc.StreamHandler) error {
			if strings.Contains(info.FullMethod, part) {
				return refusal
			}
			return next(server, stream)
		},
	)
}

// serveSlowShutdown takes its time to answer Shutdown: for ever, or as long as its argument says ("8s").
func serveSlowShutdown(arguments []string) {
	pause, err := time.ParseDuration(argument(arguments, "1000h"))
	if err != nil {
		panic(err)
	}
	serveIntercepted(
		func(ctx context.Context, request any, info *grpc.UnaryServerInfo, next grpc.UnaryHandler) (any, error) {
			if info.FullMethod == shutdown {
				time.Sleep(pause)
			}
			return next(ctx, request)
		}, nil)
}

// serveIgnoringSignals has to be killed: neither signals nor Shutdown end it.
func serveIgnoringSignals([]string) {
	signal.Ignore(syscall.SIGHUP, syscall.SIGINT, syscall.SIGTERM, syscall.SIGQUIT, syscall.SIGABRT)
	serveSlowShutdown(nil)
}

// serveWithGrandchild starts a child that outlives it and holds its stdout and stderr open; it logs the pid.
func serveWithGrandchild([]string) {
	child := exec.Command("sleep", "1000")
	child.Stdout, child.Stderr = os.Stdout, os.Stderr
	if err := child.Start(); err != nil {
		panic(err)
	}
	// A host that parses stderr can tell whom to look for.
	fmt.Fprintf(os.Stderr, `{"@level":"info","@message":"grandchild","pid":"%d"}`+"\n", child.Process.Pid)
	services.Serve(kv)
}
