package main

import (
	"context"
	"errors"
	"io"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/timestamppb"

	pb "longlived.test/hub/longlivedv1"
)

const (
	// queueLength is how many events may wait for one subscriber.
	queueLength = 256
	// stallMax is how long a publisher waits for a full queue before its subscriber gets no more.
	stallMax = 5 * time.Second
	// epochMax is the largest epoch of the contract.
	epochMax = 1<<53 - 1
)

var errSlow = status.Error(codes.ResourceExhausted, "the subscriber does not keep up")

// hub hands each message to the subscribers of its topic.
type hub struct {
	pb.UnimplementedSubscriptionServiceServer
	pb.UnimplementedPublishServiceServer

	epoch uint64

	// mu is held while a message is handed on, so that every subscriber sees the events in the order of their sequences.
	mu       sync.Mutex
	sequence uint64
	// topics are those that have subscribers.
	topics map[string]*topic
}

type topic struct {
	// last is the sequence of its newest event, as far as there were subscribers.
	last        uint64
	subscribers []*subscriber
}

// subscriber is one call of Subscribe, whose handler sends what is in the queue.
type subscriber struct {
	stream grpc.ServerStreamingServer[pb.SubscribeResponse]
	topics []string
	// ctx ends with the call; end ends it for a reason, which the handler sees once its stream takes what it sends.
	ctx   context.Context
	end   context.CancelCauseFunc
	queue chan *grpc.PreparedMsg
}

func newHub() *hub {
	return &hub{epoch: rand.Uint64N(epochMax) + 1, topics: make(map[string]*topic)}
}

// Subscribe sends a Welcome, then every event of these topics.
func (h *hub) Subscribe(
	request *pb.SubscribeRequest, stream grpc.ServerStreamingServer[pb.SubscribeResponse],
) error {
	names := make([]string, 0, len(request.GetSubscriptions()))
	for _, subscription := range request.GetSubscriptions() {
		name := subscription.GetTopicFilter()
		if strings.ContainsAny(name, "*>") {
			return status.Errorf(codes.Unimplemented, "%s: this hub knows no wildcards", name)
		}
		// An event that matches twice arrives once.
		if !slices.Contains(names, name) {
			names = append(names, name)
		}
	}
	ctx, end := context.WithCancelCause(stream.Context())
	defer end(nil)
	s := &subscriber{
		stream: stream, topics: names, ctx: ctx, end: end, queue: make(chan *grpc.PreparedMsg, queueLength),
	}
	position := h.add(s)
	defer h.remove(s)
	if err := stream.Send(h.welcome(request.GetSubscriberId(), position)); err != nil {
		return err
	}
	for {
		select {
		case event := <-s.queue:
			if err := stream.SendMsg(event); err != nil {
				return err
			}
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// PublishStream answers each message when every subscriber's queue has it.
func (h *hub) PublishStream(stream grpc.BidiStreamingServer[pb.PublishRequest, pb.PublishResponse]) error {
	for {
		request, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		position, err := h.publish(request)
		if err != nil {
			return err
		}
		answer := &pb.PublishResponse{Position: position, Durability: pb.Durability_DURABILITY_MEMORY}
		if err := stream.Send(answer); err != nil {
			return err
		}
	}
}

func (h *hub) welcome(id string, position *pb.Position) *pb.SubscribeResponse {
	return &pb.SubscribeResponse{Frame: &pb.SubscribeResponse_Welcome{Welcome: &pb.Welcome{
		SessionId: id,
		Outcome:   pb.Welcome_OUTCOME_NEW,
		Position:  position,
		Epoch:     h.epoch,
	}}}
}

// add makes s a subscriber of its topics. It gets every event after the position.
func (h *hub) add(s *subscriber) *pb.Position {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, name := range s.topics {
		t := h.topics[name]
		if t == nil {
			t = new(topic)
			h.topics[name] = t
		}
		t.subscribers = append(t.subscribers, s)
	}
	return &pb.Position{Epoch: h.epoch, Sequence: h.sequence}
}

func (h *hub) remove(s *subscriber) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.drop(s)
}

// drop takes s out of its topics, with mu held. One that is stalled was taken out before its call ends.
func (h *hub) drop(s *subscriber) {
	for _, name := range s.topics {
		t := h.topics[name]
		last := len(t.subscribers) - 1
		t.subscribers[slices.Index(t.subscribers, s)] = t.subscribers[last]
		t.subscribers[last] = nil
		t.subscribers = t.subscribers[:last]
		if last == 0 {
			delete(h.topics, name)
		}
	}
	s.topics = nil
}

// publish numbers the message and queues its event, which is encoded once, for each subscriber of the topic.
func (h *hub) publish(request *pb.PublishRequest) (*pb.Position, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.sequence++
	position := &pb.Position{Epoch: h.epoch, Sequence: h.sequence}
	t := h.topics[request.GetTopic()]
	if t == nil {
		return position, nil
	}
	event := &pb.SubscribeResponse{Frame: &pb.SubscribeResponse_Event{Event: &pb.Event{
		Topic:            request.GetTopic(),
		Sequence:         h.sequence,
		PreviousSequence: t.last,
		Payload:          request.GetPayload(),
		PublishTime:      timestamppb.Now(),
		Key:              request.GetKey(),
		Headers:          request.GetHeaders(),
		Deleted:          request.GetDeleted(),
	}}}
	t.last = h.sequence
	// No compressor is registered, so what one stream encodes is right for all.
	prepared := new(grpc.PreparedMsg)
	if err := prepared.Encode(t.subscribers[0].stream, event); err != nil {
		return nil, err
	}
	var stalled []*subscriber
	for _, s := range t.subscribers {
		if !s.take(prepared) {
			stalled = append(stalled, s)
		}
	}
	for _, s := range stalled {
		h.drop(s)
		s.end(errSlow)
	}
	return position, nil
}

// take queues an event. A full queue holds the publisher back; false after stallMax.
func (s *subscriber) take(event *grpc.PreparedMsg) bool {
	select {
	case s.queue <- event:
		return true
	default:
	}
	stalled := time.NewTimer(stallMax)
	defer stalled.Stop()
	select {
	case s.queue <- event:
		return true
	case <-s.ctx.Done():
		return true
	case <-stalled.C:
		return false
	}
}
