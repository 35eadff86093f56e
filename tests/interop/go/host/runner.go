package main

import (
	"context"
	"io"
	"os/exec"
	"strconv"

	"github.com/hashicorp/go-plugin/runner"
)

type runnerInterface = runner.Runner

// commandRunner is the smallest Runner there can be: a child process, and addresses as they are.
type commandRunner struct {
	command        *exec.Cmd
	stdout, stderr io.ReadCloser
}

func newRunner(command *exec.Cmd, environment []string) (*commandRunner, error) {
	command.Env = environment
	stdout, err := command.StdoutPipe()
	if err != nil {
		return nil, err
	}
	stderr, err := command.StderrPipe()
	if err != nil {
		return nil, err
	}
	return &commandRunner{command, stdout, stderr}, nil
}

func (r *commandRunner) Start(context.Context) error     { return r.command.Start() }
func (r *commandRunner) Diagnose(context.Context) string { return "(the runner has no diagnosis)" }
func (r *commandRunner) Stdout() io.ReadCloser           { return r.stdout }
func (r *commandRunner) Stderr() io.ReadCloser           { return r.stderr }
func (r *commandRunner) Name() string                    { return r.command.Path }
func (r *commandRunner) Wait(context.Context) error      { return r.command.Wait() }
func (r *commandRunner) Kill(context.Context) error      { return r.command.Process.Kill() }
func (r *commandRunner) ID() string                      { return strconv.Itoa(r.command.Process.Pid) }
func (r *commandRunner) PluginToHost(network, address string) (string, string, error) {
	return network, address, nil
}
func (r *commandRunner) HostToPlugin(network, address string) (string, string, error) {
	return network, address, nil
}
