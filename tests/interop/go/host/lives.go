package main

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"sort"
	"syscall"
	"time"

	plugin "github.com/hashicorp/go-plugin"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/reflection/grpc_reflection_v1"
	"google.golang.org/grpc/reflection/grpc_reflection_v1alpha"

	"interop/internal/certificates"
	"interop/internal/interoppb"
)

// exercisePing pings as hosts do, and asks what Ping does not look at.
func exercisePing(s *session) {
	s.step("ping", func() (fields, error) { return nil, s.protocol.Ping() })
	health := grpc_health_v1.NewHealthClient(s.connection("kv").Conn)
	for _, service := range []string{"plugin", ""} {
		s.call("health", func(ctx context.Context) (fields, error) {
			answer, err := health.Check(ctx, &grpc_health_v1.HealthCheckRequest{Service: service})
			return fields{"service": service, "status": answer.GetStatus().String()}, err
		})
	}
	s.call("health of nobody", func(ctx context.Context) (fields, error) {
		_, err := health.Check(ctx, &grpc_health_v1.HealthCheckRequest{Service: "nobody"})
		return expect(codes.NotFound, err)
	})
	s.call("watch", func(ctx context.Context) (fields, error) {
		stream, err := health.Watch(ctx, &grpc_health_v1.HealthCheckRequest{Service: "plugin"})
		if err != nil {
			return nil, err
		}
		answer, err := stream.Recv()
		return fields{"status": answer.GetStatus().String()}, err
	})
}

// exerciseReflection lists the services by both versions of the reflection service.
func exerciseReflection(s *session) {
	conn := s.connection("kv").Conn
	s.call("reflection v1", func(ctx context.Context) (fields, error) {
		stream, err := grpc_reflection_v1.NewServerReflectionClient(conn).ServerReflectionInfo(ctx)
		if err != nil {
			return nil, err
		}
		if err := stream.Send(&grpc_reflection_v1.ServerReflectionRequest{
			MessageRequest: &grpc_reflection_v1.ServerReflectionRequest_ListServices{},
		}); err != nil {
			return nil, err
		}
		answer, err := stream.Recv()
		return fields{"services": names(answer.GetListServicesResponse().GetService())}, err
	})
	s.call("reflection v1alpha", func(ctx context.Context) (fields, error) {
		stream, err := grpc_reflection_v1alpha.NewServerReflectionClient(conn).ServerReflectionInfo(ctx)
		if err != nil {
			return nil, err
		}
		if err := stream.Send(&grpc_reflection_v1alpha.ServerReflectionRequest{
			MessageRequest: &grpc_reflection_v1alpha.ServerReflectionRequest_ListServices{},
		}); err != nil {
			return nil, err
		}
		answer, err := stream.Recv()
		return fields{"services": names(answer.GetListServicesResponse().GetService())}, err
	})
}

func names[Service interface{ GetName() string }](services []Service) []string {
	var names []string
	for _, service := range services {
		names = append(names, service.GetName())
	}
	sort.Strings(names)
	return names
}

var signals = map[string]syscall.Signal{
	"STOP": syscall.SIGSTOP, "INT": syscall.SIGINT, "TERM": syscall.SIGTERM, "KILL": syscall.SIGKILL,
}

// exerciseKill prepares what the kill at the end is to be measured with: a signal, a call that hangs.
func exerciseKill(s *session) {
	if s.settings.inFlight {
		streaming := interoppb.NewStreamingClient(s.connection("streaming").Conn)
		begun := time.Now()
		go func() {
			_, err := streaming.Hang(context.Background(), &interoppb.Item{})
			s.begin("call in flight", begun).end(fields{"text": fmt.Sprint(err)}, nil)
		}()
	}
	if s.settings.signal == "" {
		return
	}
	s.step("signal", func() (fields, error) {
		if err := syscall.Kill(s.pid, signals[s.settings.signal]); err != nil {
			return nil, err
		}
		// Long enough to see whether it ends by that.
		for deadline := time.Now().Add(3 * time.Second); time.Now().Before(deadline) && !s.client.Exited(); {
			time.Sleep(10 * time.Millisecond)
		}
		return fields{"signal": s.settings.signal, "exited": s.client.Exited()}, nil
	})
}

// exerciseReattach attaches a second client to the running plugin, which then also ends it.
func exerciseReattach(s *session) {
	attachment := s.client.ReattachConfig()
	config := s.configuration()
	config.Cmd, config.RunnerFunc, config.AutoMTLS = nil, nil, false
	config.Plugins = config.VersionedPlugins[s.settings.versions[0]]
	config.Reattach = attachment
	second := plugin.NewClient(config)
	attached := s.step("attach", func() (fields, error) {
		_, err := second.Start()
		return fields{"attach": formatAttachment(attachment)}, err
	})
	if !attached {
		return
	}
	s.step("ping attached", func() (fields, error) {
		protocol, err := second.Client()
		if err != nil {
			return nil, err
		}
		return nil, protocol.Ping()
	})
	s.step("kill attached", func() (fields, error) {
		second.Kill()
		for deadline := time.Now().Add(3 * time.Second); time.Now().Before(deadline) && !s.client.Exited(); {
			time.Sleep(10 * time.Millisecond)
		}
		return fields{"exited": s.client.Exited()}, nil
	})
}

// exerciseStrangers calls the plugin without being its host; with -auto-mtls all three have to fail.
func exerciseStrangers(s *session) {
	certificate, err := certificates.New()
	if err != nil {
		panic(err)
	}
	// What the plugin presents is not looked at: it is the plugin that has to refuse.
	anonymous := &tls.Config{InsecureSkipVerify: true, NextProtos: []string{"h2"}}
	other := anonymous.Clone()
	other.Certificates = []tls.Certificate{certificate.TLS}
	for name, creds := range map[string]credentials.TransportCredentials{
		"plaintext": insecure.NewCredentials(), "no certificate": credentials.NewTLS(anonymous),
		"another certificate": credentials.NewTLS(other),
	} {
		s.call("stranger", func(ctx context.Context) (fields, error) {
			conn, err := grpc.NewClient("passthrough:///plugin", grpc.WithTransportCredentials(creds),
				grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) {
					var dialer net.Dialer
					return dialer.DialContext(ctx, s.address.Network(), s.address.String())
				}))
			if err != nil {
				return nil, err
			}
			defer conn.Close()
			_, err = grpc_health_v1.NewHealthClient(conn).Check(ctx, &grpc_health_v1.HealthCheckRequest{})
			if err == nil && s.settings.autoMTLS {
				return fields{"with": name}, errors.New("the stranger was served")
			}
			return fields{"with": name, "served": err == nil, "text": fmt.Sprint(err)}, nil
		})
	}
}
