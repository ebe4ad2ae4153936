package main

import (
	"context"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
)

type grpcPeer struct{ connection *grpc.ClientConn }

func dialGrpc(address string) (peer, error) {
	connection, err := grpc.NewClient(address, grpc.WithTransportCredentials(insecure.NewCredentials()))
	return grpcPeer{connection}, err
}

func (p grpcPeer) close() { p.connection.Close() }

func (p grpcPeer) open(ctx context.Context, method string) (stream, error) {
	description := grpc.StreamDesc{ClientStreams: true, ServerStreams: true}
	opened, err := p.connection.NewStream(ctx, &description, method, grpc.ForceCodec(raw{}))
	return grpcStream{opened}, err
}

type grpcStream struct{ grpc.ClientStream }

func (s grpcStream) Send(message []byte) error { return s.SendMsg(&message) }

func (s grpcStream) Receive() ([]byte, error) {
	var message []byte
	err := s.RecvMsg(&message)
	return message, err
}
