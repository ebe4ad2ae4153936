package main

import (
	"context"
	"crypto/tls"
	"net"
	"net/http"

	"connectrpc.com/connect"
	"golang.org/x/net/http2"
)

type connectPeer struct {
	address   string
	transport *http2.Transport
}

func dialConnect(address string) (peer, error) {
	transport := &http2.Transport{
		AllowHTTP: true,
		DialTLSContext: func(ctx context.Context, network, address string, _ *tls.Config) (net.Conn, error) {
			var dialer net.Dialer
			return dialer.DialContext(ctx, network, address)
		},
	}
	return connectPeer{address, transport}, nil
}

func (p connectPeer) close() { p.transport.CloseIdleConnections() }

func (p connectPeer) open(ctx context.Context, method string) (stream, error) {
	client := connect.NewClient[[]byte, []byte](
		&http.Client{Transport: p.transport}, "http://"+p.address+method,
		connect.WithGRPC(), connect.WithCodec(raw{}),
	)
	return connectStream{client.CallBidiStream(ctx)}, nil
}

type connectStream struct {
	*connect.BidiStreamForClient[[]byte, []byte]
}

func (s connectStream) Send(message []byte) error {
	return s.BidiStreamForClient.Send(&message)
}

func (s connectStream) CloseSend() error { return s.CloseRequest() }

func (s connectStream) Receive() ([]byte, error) {
	message, err := s.BidiStreamForClient.Receive()
	if err != nil {
		return nil, err
	}
	return *message, nil
}
