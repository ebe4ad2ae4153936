// hub is the server that `longlived bench fanout --against grpc-go` measures: publish and subscribe over grpc-go, as
// one writes it by hand. It speaks longlived.v1, so that the load generator is the same.
//
// It keeps nothing: no history, no resumption, no Progress, and of topic filters only plain names.
package main

import (
	"flag"
	"fmt"
	"log"
	"net"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/keepalive"

	pb "longlived.test/hub/longlivedv1"
)

// As longlived asks by default whether a silent client is there, and waits for its answer.
const (
	keepaliveTime    = 20 * time.Second
	keepaliveTimeout = 10 * time.Second
)

func main() {
	listen := flag.String("listen", "127.0.0.1:0", "`address` to listen on")
	cert := flag.String("cert", "", "`file` with the certificate of the server, in PEM; with it the hub speaks TLS")
	key := flag.String("key", "", "`file` with the key of the certificate, in PEM")
	flag.Parse()
	listener, err := net.Listen("tcp", *listen)
	if err != nil {
		log.Fatal(err)
	}
	// The buffers of connections are shared by default, so that an idle one holds none.
	options := []grpc.ServerOption{
		grpc.KeepaliveParams(keepalive.ServerParameters{Time: keepaliveTime, Timeout: keepaliveTimeout}),
	}
	if *cert != "" {
		secure, err := credentials.NewServerTLSFromFile(*cert, *key)
		if err != nil {
			log.Fatal(err)
		}
		options = append(options, grpc.Creds(secure))
	}
	server := grpc.NewServer(options...)
	hub := newHub()
	pb.RegisterSubscriptionServiceServer(server, hub)
	pb.RegisterPublishServiceServer(server, hub)
	fmt.Println("listening on", listener.Addr())
	log.Fatal(server.Serve(listener))
}
