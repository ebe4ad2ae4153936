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
	flag.Parse()
	listener, err := net.Listen("tcp", *listen)
	if err != nil {
		log.Fatal(err)
	}
	// The buffers of connections are shared by default, so that an idle one holds none.
	server := grpc.NewServer(
		grpc.KeepaliveParams(keepalive.ServerParameters{Time: keepaliveTime, Timeout: keepaliveTimeout}),
	)
	hub := newHub()
	pb.RegisterSubscriptionServiceServer(server, hub)
	pb.RegisterPublishServiceServer(server, hub)
	fmt.Println("listening on", listener.Addr())
	log.Fatal(server.Serve(listener))
}
