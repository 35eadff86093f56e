// The host, in Go, for the plugin that its arguments are: `host python ../kv/plugin.py`.
package main

import (
	"context"
	"fmt"
	"log"
	"os"
	"os/exec"

	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/go-plugin"

	"example/kvpb"
	"example/shared"
)

func main() {
	client := plugin.NewClient(&plugin.ClientConfig{
		HandshakeConfig:  shared.Handshake,
		Plugins:          plugin.PluginSet{"kv": shared.KV{}},
		Cmd:              exec.Command(os.Args[1], os.Args[2:]...),
		AllowedProtocols: []plugin.Protocol{plugin.ProtocolGRPC},
		AutoMTLS:         true,
		Logger:           hclog.New(&hclog.LoggerOptions{Name: "host", Level: hclog.Info}),
	})
	err := talk(client)
	client.Kill()
	if err != nil {
		log.Fatal(err)
	}
}

func talk(client *plugin.Client) error {
	protocol, err := client.Client()
	if err != nil {
		return err
	}
	raw, err := protocol.Dispense("kv")
	if err != nil {
		return err
	}
	kv := raw.(kvpb.KVClient)
	value := []byte("hello from Go")
	if _, err := kv.Put(context.Background(), &kvpb.PutRequest{Key: "greeting", Value: value}); err != nil {
		return err
	}
	answer, err := kv.Get(context.Background(), &kvpb.GetRequest{Key: "greeting"})
	if err != nil {
		return err
	}
	fmt.Printf("value: %s\n", answer.Value)
	return nil
}
