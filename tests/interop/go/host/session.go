package main

import (
	"context"
	"encoding/json"
	"errors"
	"net"
	"os"
	"os/exec"
	"strconv"
	"syscall"
	"time"

	"github.com/hashicorp/go-hclog"
	plugin "github.com/hashicorp/go-plugin"

	"interop/internal/certificates"
	"interop/internal/services"
)

// A session is one life of a plugin, from the host's side.
type session struct {
	*report
	settings *settings
	client   *plugin.Client
	protocol plugin.ClientProtocol
	address  net.Addr
	logs     *transcript
	stderr   *transcript
	stdouts  *transcript
	stderrs  *transcript
}

func newSession(settings *settings, report *report) *session {
	s := &session{
		report: report, settings: settings,
		logs: newTranscript(), stderr: newTranscript(), stdouts: newTranscript(), stderrs: newTranscript(),
	}
	s.client = plugin.NewClient(s.configuration())
	return s
}

func (s *session) configuration() *plugin.ClientConfig {
	handshake := services.Handshake
	handshake.MagicCookieKey, handshake.MagicCookieValue = s.settings.cookieKey, s.settings.cookieValue
	config := &plugin.ClientConfig{
		HandshakeConfig:     handshake,
		AllowedProtocols:    []plugin.Protocol{plugin.ProtocolGRPC},
		StartTimeout:        s.settings.timeout,
		AutoMTLS:            s.settings.autoMTLS,
		GRPCBrokerMultiplex: s.settings.mux,
		SkipHostEnv:         s.settings.skipHostEnv,
		PluginLogBufferSize: s.settings.logBufferSize,
		Stderr:              s.stderr,
		SyncStdout:          s.stdouts,
		SyncStderr:          s.stderrs,
		Logger:              hclog.New(&hclog.LoggerOptions{Name: "host", Level: hclog.Trace, Output: s.logs, JSONFormat: true}),
	}
	set := plugin.PluginSet{}
	for _, name := range []string{"kv", "counter", "streaming", "greeter", "stdio", "logs"} {
		set[name] = services.Interface{}
	}
	config.VersionedPlugins = map[int]plugin.PluginSet{}
	for _, version := range s.settings.versions {
		config.VersionedPlugins[version] = set
	}
	if s.settings.tls != "" {
		loaded, err := certificates.Load(s.settings.tls, "host")
		if err != nil {
			panic(err)
		}
		config.TLSConfig = loaded
	}
	if s.settings.group != "" {
		config.UnixSocketConfig = &plugin.UnixSocketConfig{Group: s.settings.group}
	}
	if s.settings.attach != "" {
		config.Plugins = set
		config.Reattach = parseAttachment(s.settings.attach)
		return config
	}
	command := exec.Command(s.settings.command[0], s.settings.command[1:]...)
	command.Env = s.settings.environment
	if s.settings.runner {
		config.RunnerFunc = func(_ hclog.Logger, given *exec.Cmd, _ string) (runnerInterface, error) {
			return newRunner(command, given.Env)
		}
	} else {
		config.Cmd = command
	}
	return config
}

// start launches the plugin and opens its connection.
func (s *session) start() bool {
	started := s.step("start", func() (fields, error) {
		address, err := s.client.Start()
		if err != nil {
			return nil, err
		}
		s.address = address
		more := fields{
			"network": address.Network(), "address": address.String(),
			"protocol": s.client.Protocol(), "version": s.client.NegotiatedVersion(), "id": s.client.ID(),
		}
		if attachment := s.client.ReattachConfig(); attachment != nil {
			s.pid = attachment.Pid
		}
		if s.pid == 0 {
			// Started by a RunnerFunc, whose id it is.
			s.pid, _ = strconv.Atoi(s.client.ID())
		}
		more["pid"] = s.pid
		return more, nil
	})
	return started && s.step("client", func() (more fields, err error) {
		s.protocol, err = s.client.Client()
		return nil, err
	})
}

// connection dispenses an interface.
func (s *session) connection(name string) services.Connection {
	raw, err := s.protocol.Dispense(name)
	if err != nil {
		// Local to the host: it would be an error of this program.
		panic(err)
	}
	return raw.(services.Connection)
}

// call does a step that needs a context.
func (s *session) call(name string, do func(ctx context.Context) (fields, error)) bool {
	return s.step(name, func() (fields, error) {
		ctx, cancel := context.WithTimeout(context.Background(), s.settings.callTimeout)
		defer cancel()
		return do(ctx)
	})
}

// finish ends the plugin, or leaves it, and prints what is wanted of the logs.
func (s *session) finish() {
	if s.settings.leave && s.address != nil {
		s.step("leave", func() (fields, error) {
			return fields{"attach": formatAttachment(s.client.ReattachConfig())}, nil
		})
	} else {
		s.step("kill", func() (fields, error) { return s.kill() })
	}
	if s.settings.printLogs {
		s.printRecords()
	}
	s.pid = 0
}

// kill ends the plugin as hosts do and looks at what is left of it.
func (s *session) kill() (fields, error) {
	pid := s.pid
	s.client.Kill()
	more := fields{"graceful": !s.logs.contains("plugin failed to exit gracefully"), "exited": s.client.Exited()}
	if exit := s.logs.find("plugin process exited"); exit != nil {
		more["exit"] = exit["error"]
	}
	if s.address != nil && s.address.Network() == "unix" {
		_, err := os.Stat(s.address.String())
		more["socket_left"] = err == nil
	}
	// A process that somebody else has to reap is there a moment longer.
	alive := pid > 0
	for deadline := time.Now().Add(time.Second); alive && time.Now().Before(deadline); time.Sleep(5 * time.Millisecond) {
		alive = !errors.Is(syscall.Kill(pid, 0), syscall.ESRCH)
	}
	more["alive"] = alive
	return more, nil
}

// An attachment is how Terraform writes a ReattachConfig.
type attachment struct {
	Protocol        string
	ProtocolVersion int
	Pid             int
	Test            bool
	Addr            struct{ Network, String string }
}

func formatAttachment(config *plugin.ReattachConfig) attachment {
	a := attachment{
		Protocol: string(config.Protocol), ProtocolVersion: config.ProtocolVersion, Pid: config.Pid, Test: config.Test,
	}
	a.Addr.Network, a.Addr.String = config.Addr.Network(), config.Addr.String()
	return a
}

func parseAttachment(text string) *plugin.ReattachConfig {
	var a attachment
	if err := json.Unmarshal([]byte(text), &a); err != nil {
		panic(err)
	}
	var address net.Addr = &net.UnixAddr{Net: "unix", Name: a.Addr.String}
	if a.Addr.Network == "tcp" {
		resolved, err := net.ResolveTCPAddr("tcp", a.Addr.String)
		if err != nil {
			panic(err)
		}
		address = resolved
	}
	return &plugin.ReattachConfig{
		Protocol: plugin.Protocol(a.Protocol), ProtocolVersion: a.ProtocolVersion, Pid: a.Pid, Test: a.Test, Addr: address,
	}
}
