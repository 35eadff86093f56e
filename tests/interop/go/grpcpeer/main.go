// grpcpeer serves and calls interop.Peer with grpc-go alone: `grpcpeer serve FOLDER`, `grpcpeer call`.
//
// What it does, hears and says is described in tests/kit/grpc_peer.py and told_calls.py.
package main

import (
	"bufio"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"hash/crc32"
	"os"
	"path/filepath"

	"google.golang.org/grpc/credentials"
)

// raw is a message that is its own bytes; codec is grpc's name for what carries it.
type raw struct{ data []byte }

type codec struct{}

func (codec) Marshal(v any) ([]byte, error) { return v.(*raw).data, nil }

func (codec) Unmarshal(data []byte, v any) error {
	v.(*raw).data = append([]byte(nil), data...)
	return nil
}

func (codec) Name() string { return "proto" }

// pattern returns so many bytes of which no two places of a frame are alike.
func pattern(size int) []byte {
	data := make([]byte, size)
	for at := range data {
		data[at] = byte(at % 251)
	}
	return data
}

// secrets returns TLS with the certificates of the peer in a folder, for both roles.
func secrets(folder string) credentials.TransportCredentials {
	pair, err := tls.LoadX509KeyPair(filepath.Join(folder, "peer.pem"), filepath.Join(folder, "peer.key"))
	check(err)
	authority, err := os.ReadFile(filepath.Join(folder, "authority.pem"))
	check(err)
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(authority)
	return credentials.NewTLS(&tls.Config{
		Certificates: []tls.Certificate{pair},
		ClientAuth:   tls.RequireAndVerifyClientCert,
		ClientCAs:    pool,
		RootCAs:      pool,
		ServerName:   "localhost",
		MinVersion:   tls.VersionTLS12,
	})
}

func check(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func say(what any) {
	line, err := json.Marshal(what)
	check(err)
	_, err = os.Stdout.Write(append(line, '\n'))
	check(err)
}

func lines() *bufio.Scanner {
	scanner := bufio.NewScanner(os.Stdin)
	scanner.Buffer(nil, 16<<20)
	return scanner
}

func checksum(sum uint32, data []byte) uint32 { return crc32.Update(sum, crc32.IEEETable, data) }

func main() {
	switch {
	case len(os.Args) == 3 && os.Args[1] == "serve":
		serve(os.Args[2])
	case len(os.Args) == 2 && os.Args[1] == "call":
		callAll()
	default:
		fmt.Fprintln(os.Stderr, "usage: grpcpeer serve FOLDER | grpcpeer call")
		os.Exit(2)
	}
}
