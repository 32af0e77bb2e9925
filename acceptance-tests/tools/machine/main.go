// An SSH server that lets everybody in and does nothing: each command succeeds at once, and files go nowhere. It stands for
// a builder where only what happens around it counts. Prints its port; ends with its standard input.
package main

import (
	"crypto/ed25519"
	"crypto/rand"
	"fmt"
	"io"
	"log"
	"net"
	"os"
	"strings"

	"golang.org/x/crypto/ssh"
)

func main() {
	_, key, err := ed25519.GenerateKey(rand.Reader)
	check(err)
	signer, err := ssh.NewSignerFromKey(key)
	check(err)
	config := &ssh.ServerConfig{NoClientAuth: true}
	config.PublicKeyCallback = func(ssh.ConnMetadata, ssh.PublicKey) (*ssh.Permissions, error) { return nil, nil }
	config.AddHostKey(signer)
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	check(err)
	fmt.Println(listener.Addr().(*net.TCPAddr).Port)
	go func() {
		_, _ = io.Copy(io.Discard, os.Stdin)
		os.Exit(0)
	}()
	for {
		connection, err := listener.Accept()
		check(err)
		go serve(connection, config)
	}
}

func serve(connection net.Conn, config *ssh.ServerConfig) {
	defer connection.Close()
	_, channels, requests, err := ssh.NewServerConn(connection, config)
	if err != nil {
		return
	}
	go ssh.DiscardRequests(requests)
	for channel := range channels {
		if channel.ChannelType() != "session" {
			_ = channel.Reject(ssh.UnknownChannelType, "")
			continue
		}
		session, requests, err := channel.Accept()
		if err != nil {
			return
		}
		go run(session, requests)
	}
}

// run says of a command that it succeeded; of scp (https://en.wikipedia.org/wiki/Secure_copy_protocol) first that it is
// ready, and that each of what it is told is well.
func run(session ssh.Channel, requests <-chan *ssh.Request) {
	defer session.Close()
	for request := range requests {
		command := struct{ Text string }{}
		isCommand := request.Type == "exec" && ssh.Unmarshal(request.Payload, &command) == nil
		if request.WantReply {
			_ = request.Reply(isCommand || request.Type == "env", nil)
		}
		if !isCommand {
			continue
		}
		if strings.HasPrefix(command.Text, "scp ") {
			_, _ = session.Write([]byte{0, 0, 0})
			_, _ = io.Copy(io.Discard, session)
		}
		_, _ = session.SendRequest("exit-status", false, ssh.Marshal(struct{ Code uint32 }{0}))
		return
	}
}

func check(err error) {
	if err != nil {
		log.Fatal(err)
	}
}
