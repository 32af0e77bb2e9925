// An SSH server that lets everybody in and does nothing: each command succeeds at once, and files go nowhere. It stands for
// a builder where only what happens around it counts. Prints its port; ends with its standard input.
//
// With the address of another one as its argument it stands for a bastion: it leads there whoever wants to go anywhere, and
// prints who that is, with which key, and where to. Nobody gets in without a key.
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
	to := ""
	if len(os.Args) > 1 {
		to = os.Args[1]
	}
	config := &ssh.ServerConfig{NoClientAuth: to == ""}
	config.PublicKeyCallback = func(_ ssh.ConnMetadata, key ssh.PublicKey) (*ssh.Permissions, error) {
		return &ssh.Permissions{Extensions: map[string]string{"key": ssh.FingerprintSHA256(key)}}, nil
	}
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
		go serve(connection, config, to)
	}
}

func serve(connection net.Conn, config *ssh.ServerConfig, to string) {
	defer connection.Close()
	client, channels, requests, err := ssh.NewServerConn(connection, config)
	if err != nil {
		return
	}
	go ssh.DiscardRequests(requests)
	for channel := range channels {
		if channel.ChannelType() == "direct-tcpip" && to != "" {
			go lead(client, channel, to)
			continue
		}
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

// lead joins a channel (RFC 4254, 7.2) with a connection to an address.
func lead(client *ssh.ServerConn, channel ssh.NewChannel, to string) {
	wanted := struct {
		Host     string
		Port     uint32
		From     string
		FromPort uint32
	}{}
	check(ssh.Unmarshal(channel.ExtraData(), &wanted))
	fmt.Println(client.User(), client.Permissions.Extensions["key"], wanted.Host, wanted.Port)
	connection, err := net.Dial("tcp", to)
	check(err)
	defer connection.Close()
	stream, requests, err := channel.Accept()
	if err != nil {
		return
	}
	go ssh.DiscardRequests(requests)
	go func() {
		_, _ = io.Copy(stream, connection)
		_ = stream.Close()
	}()
	_, _ = io.Copy(connection, stream)
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
