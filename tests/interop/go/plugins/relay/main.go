// relay runs a plugin and passes on its handshake, changed: `relay [-tcp] [-swap-cert] COMMAND ...`.
//
// go-plugin listens on TCP on Windows only; behind a relay its plugins are there on any system. Only the first listener
// moves: what a plugin offers through its broker stays where it is.
package main

import (
	"bufio"
	"encoding/base64"
	"flag"
	"fmt"
	"io"
	"log"
	"net"
	"os"
	"os/exec"
	"os/signal"
	"strings"
	"syscall"

	"interop/internal/certificates"
)

func main() {
	tcp := flag.Bool("tcp", false, "listen on 127.0.0.1 and forward")
	swap := flag.Bool("swap-cert", false, "announce a certificate that is not the plugin's")
	flag.Parse()
	// The host decides, as with every plugin.
	signal.Ignore(os.Interrupt)

	child := exec.Command(flag.Arg(0), flag.Args()[1:]...)
	child.Stdin, child.Stderr = os.Stdin, os.Stderr
	child.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	stdout, err := child.StdoutPipe()
	check(err)
	check(child.Start())
	lines := bufio.NewReader(stdout)
	line, err := lines.ReadString('\n')
	check(err)
	fields := strings.Split(strings.TrimSuffix(line, "\n"), "|")
	if *tcp {
		fields[2], fields[3] = "tcp", forward(fields[2], fields[3])
	}
	if *swap {
		other, err := certificates.New()
		check(err)
		fields[5] = base64.RawStdEncoding.EncodeToString(other.DER)
	}
	fmt.Println(strings.Join(fields, "|"))
	_, _ = io.Copy(os.Stdout, lines)
	_ = child.Wait()
	os.Exit(child.ProcessState.ExitCode())
}

// forward listens on a port of its own for a plugin that listens elsewhere, and returns the address.
func forward(network, address string) string {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	check(err)
	go func() {
		for {
			near, err := listener.Accept()
			check(err)
			far, err := net.Dial(network, address)
			if err != nil {
				near.Close()
				continue
			}
			go pump(near, far)
			go pump(far, near)
		}
	}()
	return listener.Addr().String()
}

func pump(to, from net.Conn) {
	_, _ = io.Copy(to, from)
	to.Close()
}

func check(err error) {
	if err != nil {
		log.Fatalln("relay:", err)
	}
}
