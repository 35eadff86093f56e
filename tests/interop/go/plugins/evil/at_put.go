package main

import (
	"bytes"
	"context"
	"os"
	"strconv"
	"sync/atomic"

	plugin "github.com/hashicorp/go-plugin"
	"google.golang.org/grpc"

	"interop/internal/kvpb"
	"interop/internal/services"
)

// A trapped store does something at every Put.
type trapped struct {
	services.KV
	spring func(store *services.KV)
}

func (t *trapped) Put(ctx context.Context, request *kvpb.PutRequest) (*kvpb.Empty, error) {
	answer, err := t.KV.Put(ctx, request)
	t.spring(&t.KV)
	return answer, err
}

func serveTrapped(spring func(store *services.KV)) {
	services.Serve(map[string]services.Register{
		"kv": func(_ *plugin.GRPCBroker, server grpc.ServiceRegistrar) {
			kvpb.RegisterKVServer(server, &trapped{spring: spring})
		},
	})
}

// writeMessageNumber logs a line on stderr whose message is no string; Go hosts end by it.
func writeMessageNumber([]string) {
	serveTrapped(func(*services.KV) {
		if err := services.WriteAll(2, []byte(`{"@message": 5}`+"\n")); err != nil {
			panic(err)
		}
	})
}

// writeLongLine writes a line of 1 MiB to descriptor 1, then 1 MiB of short ones; the key "written" counts the bytes.
func writeLongLine([]string) {
	var written atomic.Int64
	data := append(bytes.Repeat([]byte("x"), 1<<20), '\n')
	data = append(data, bytes.Repeat([]byte("0123456789abcde\n"), 1<<16)...)
	serveTrapped(func(store *services.KV) {
		// Not here: a host that has stopped reading stdout blocks whoever writes to it.
		go func() {
			for len(data) > 0 {
				chunk := data[:min(4096, len(data))]
				if err := services.WriteAll(1, chunk); err != nil {
					panic(err)
				}
				data = data[len(chunk):]
				count := strconv.FormatInt(written.Add(int64(len(chunk))), 10)
				_, _ = store.Put(context.Background(), &kvpb.PutRequest{Key: "written", Value: []byte(count)})
			}
		}()
	})
}

// crash exits in the middle of the call, with the given status.
func crash(arguments []string) {
	status, err := strconv.Atoi(argument(arguments, "3"))
	if err != nil {
		panic(err)
	}
	serveTrapped(func(*services.KV) { os.Exit(status) })
}
