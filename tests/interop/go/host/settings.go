package main

import (
	"flag"
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"
)

type settings struct {
	command       []string
	environment   []string
	skipHostEnv   bool
	cookieKey     string
	cookieValue   string
	versions      []int
	autoMTLS      bool
	tls           string
	mux           bool
	runner        bool
	group         string
	timeout       time.Duration
	callTimeout   time.Duration
	patience      time.Duration
	loop          int
	calls         int
	size          int
	signal        string
	inFlight      bool
	panics        bool
	attach        string
	leave         bool
	printLogs     bool
	logBufferSize int
}

func parseSettings(arguments []string) *settings {
	s := &settings{versions: []int{1}}
	flags := flag.NewFlagSet("host", flag.ExitOnError)
	flags.StringVar(&s.cookieKey, "cookie-key", "BASIC_PLUGIN", "name of the magic cookie")
	flags.StringVar(&s.cookieValue, "cookie-value", "hello", "value of the magic cookie")
	flags.Func("versions", "versions that the host accepts, as 1,2 (default 1)", s.setVersions)
	flags.BoolVar(&s.autoMTLS, "auto-mtls", false, "AutoMTLS")
	flags.StringVar(&s.tls, "tls", "", "manual TLS with the host's files in this folder; Go plugins take theirs by INTEROP_TLS")
	flags.BoolVar(&s.mux, "mux", false, "multiplex the broker (GRPCBrokerMultiplex)")
	tcp := flags.Bool("tcp", false, "ask the plugin for TCP by INTEROP_NETWORK=tcp; put Go plugins behind `relay -tcp`")
	flags.BoolVar(&s.runner, "runner", false, "start the plugin by a RunnerFunc, which makes a socket directory")
	flags.StringVar(&s.group, "group", "", "UnixSocketConfig.Group")
	flags.DurationVar(&s.timeout, "timeout", 10*time.Second, "StartTimeout")
	flags.DurationVar(&s.callTimeout, "call-timeout", 10*time.Second, "deadline of every call")
	flags.DurationVar(&s.patience, "patience", 20*time.Second, "longest that a step may take")
	flags.IntVar(&s.loop, "loop", 0, "how many lives; prints failures and one line only")
	flags.IntVar(&s.calls, "calls", 3, "how many calls, callbacks or messages, where that matters")
	flags.IntVar(&s.size, "size", 16, "bytes of a value, message or print")
	flags.StringVar(&s.signal, "signal", "", "kill: sent to the plugin first, as STOP, INT, TERM or KILL")
	flags.BoolVar(&s.inFlight, "in-flight", false, "kill: while a call hangs (of the streaming plugin)")
	flags.BoolVar(&s.panics, "panic", false, "logs: have the plugin end by an error that nobody catches")
	flags.StringVar(&s.attach, "attach", "", "attach to a running plugin by the JSON of -leave, instead of a COMMAND")
	flags.BoolVar(&s.leave, "leave", false, "leave the plugin running at the end, and print how to attach to it")
	flags.BoolVar(&s.printLogs, "print-logs", false, "print what the host logged, as steps of their own")
	flags.IntVar(&s.logBufferSize, "log-buffer", 0, "PluginLogBufferSize")
	flags.BoolVar(&s.skipHostEnv, "skip-host-env", false, "SkipHostEnv")
	flags.Func("env", "NAME=VALUE for the plugin; may be repeated", func(text string) error {
		s.environment = append(s.environment, text)
		return nil
	})
	_ = flags.Parse(arguments)
	s.command = flags.Args()
	if *tcp {
		s.environment = append(s.environment, "INTEROP_NETWORK=tcp")
	}
	if s.tls != "" {
		s.environment = append(s.environment, "INTEROP_TLS="+s.tls)
	}
	if len(s.command) == 0 && s.attach == "" {
		fmt.Fprintln(os.Stderr, "host: no COMMAND")
		os.Exit(2)
	}
	return s
}

func (s *settings) setVersions(text string) error {
	s.versions = nil
	for _, part := range strings.Split(text, ",") {
		version, err := strconv.Atoi(part)
		if err != nil {
			return err
		}
		s.versions = append(s.versions, version)
	}
	return nil
}
