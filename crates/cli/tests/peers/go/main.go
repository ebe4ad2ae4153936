// peers sends many small messages to a longlived server with stock clients, and says whether each was answered.
//
//	peers grpc-go|connect-go HOST:PORT MESSAGES
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"time"
)

// stream is what both clients have in common.
type stream interface {
	Send([]byte) error
	CloseSend() error
	Receive() ([]byte, error)
}

// peer opens streams on one connection.
type peer interface {
	open(ctx context.Context, method string) (stream, error)
	close()
}

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Println("FAIL", err)
		os.Exit(1)
	}
}

func run(args []string) error {
	if len(args) != 3 {
		return errors.New("usage: peers grpc-go|connect-go HOST:PORT MESSAGES")
	}
	messages, err := strconv.Atoi(args[2])
	if err != nil {
		return err
	}
	dial := map[string]func(string) (peer, error){"grpc-go": dialGrpc, "connect-go": dialConnect}[args[0]]
	if dial == nil {
		return fmt.Errorf("no client %s", args[0])
	}
	scenarios := []struct {
		name string
		run  func(context.Context, peer, int) error
	}{
		{"PublishStream", publishOn},
		{"BulkPublish", bulk},
		{"Session", sessionWhilePublishing},
	}
	for _, scenario := range scenarios {
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Minute)
		defer cancel()
		peer, err := dial(args[1])
		if err != nil {
			return err
		}
		since := time.Now()
		if err := scenario.run(ctx, peer, messages); err != nil {
			return fmt.Errorf("%s %s: %w", args[0], scenario.name, err)
		}
		peer.close()
		fmt.Printf("ok %s %s: %d in %.1f s\n", args[0], scenario.name, messages, time.Since(since).Seconds())
	}
	return nil
}

// send sends all, and ends the sending half.
func send(stream stream, messages int, message func(int) []byte) error {
	for n := range messages {
		if err := stream.Send(message(n)); err != nil {
			// What it ended with is there to be received.
			break
		}
	}
	return stream.CloseSend()
}

// receive counts answers to the end of the stream.
func receive(stream stream) (int, error) {
	for answers := 0; ; answers++ {
		if _, err := stream.Receive(); errors.Is(err, io.EOF) {
			return answers, nil
		} else if err != nil {
			return answers, fmt.Errorf("after %d answers: %w", answers, err)
		}
	}
}

func publishOn(ctx context.Context, peer peer, messages int) error {
	stream, err := peer.open(ctx, publishStream)
	if err != nil {
		return err
	}
	sent := make(chan error, 1)
	go func() { sent <- send(stream, messages, message) }()
	answers, err := receive(stream)
	if err != nil {
		return err
	}
	if answers != messages {
		return fmt.Errorf("%d answers to %d messages", answers, messages)
	}
	return <-sent
}

func bulk(ctx context.Context, peer peer, messages int) error {
	stream, err := peer.open(ctx, bulkPublish)
	if err != nil {
		return err
	}
	if err := send(stream, messages, message); err != nil {
		return err
	}
	answer, err := stream.Receive()
	if err != nil {
		return err
	}
	if count := published(answer); count != uint64(messages) {
		return fmt.Errorf("%d of %d are published", count, messages)
	}
	return nil
}

// sessionWhilePublishing has a session ask as often as its connection publishes: every event and every answer comes.
func sessionWhilePublishing(ctx context.Context, peer peer, messages int) error {
	subscriber, err := peer.open(ctx, session)
	if err != nil {
		return err
	}
	id := fmt.Sprintf("peer-%d", os.Getpid())
	if err := subscriber.Send(open(id)); err != nil {
		return err
	}
	if first, err := subscriber.Receive(); err != nil {
		return err
	} else if kind(first) != frameWelcome {
		return fmt.Errorf("the first response is of kind %d", kind(first))
	}
	done := make(chan error, 2)
	go func() { done <- publishOn(ctx, peer, messages) }()
	go func() {
		for n := range messages {
			if subscriber.Send(request(n)) != nil {
				break
			}
		}
		done <- nil
	}()
	events, answers := 0, 0
	for events < messages || answers < messages {
		response, err := subscriber.Receive()
		if err != nil {
			return fmt.Errorf("after %d events and %d answers: %w", events, answers, err)
		}
		if kind(response) == frameEvent {
			events++
		} else {
			answers++
		}
	}
	for range 2 {
		if err := <-done; err != nil {
			return err
		}
	}
	return subscriber.CloseSend()
}
