package main

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"

	"github.com/hashicorp/go-hclog"
	plugin "github.com/hashicorp/go-plugin"
	"github.com/hashicorp/go-plugin/examples/grpc/proto"
)

// host starts the plugin and does workloads, a line of JSON each way, until there are no more.
func host() error {
	client := plugin.NewClient(&plugin.ClientConfig{
		HandshakeConfig:  handshake,
		Plugins:          plugin.PluginSet{"kv": kv{}},
		Cmd:              exec.Command(os.Args[0]),
		AllowedProtocols: []plugin.Protocol{plugin.ProtocolGRPC},
		Logger:           hclog.NewNullLogger(),
	})
	defer client.Kill()
	protocol, err := client.Client()
	if err != nil {
		return err
	}
	dispensed, err := protocol.Dispense("kv")
	if err != nil {
		return err
	}
	bench := bench{kv: dispensed.(proto.KVClient), pid: client.ReattachConfig().Pid}
	if reply, err := bench.get(); err != nil || !bytes.Equal(reply, value) {
		return errors.Join(errors.New("the plugin does not answer"), err)
	}
	fmt.Println("{}")
	return bench.serve(bufio.NewScanner(os.Stdin))
}

func (b *bench) serve(requests *bufio.Scanner) error {
	answers := json.NewEncoder(os.Stdout)
	for requests.Scan() {
		var w workload
		if err := json.Unmarshal(requests.Bytes(), &w); err != nil {
			return err
		}
		figures, err := b.do(w)
		if err != nil {
			return err
		}
		if err := answers.Encode(figures); err != nil {
			return err
		}
	}
	return requests.Err()
}
