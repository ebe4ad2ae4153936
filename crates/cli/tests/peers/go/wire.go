package main

import (
	"encoding/binary"
	"fmt"
)

// Messages are written and read by field number, so that nothing has to be generated.

const (
	publishStream = "/longlived.v1.PublishService/PublishStream"
	bulkPublish   = "/longlived.v1.PublishService/BulkPublish"
	session       = "/longlived.v1.SubscriptionService/Session"
	topic         = "peers.t"
	// Of the oneof of SubscribeResponse.
	frameEvent    = 1
	frameWelcome  = 2
	frameProgress = 3
)

// field is a length-delimited field. All that is written here is shorter than 128 bytes.
func field(number byte, content []byte) []byte {
	return append([]byte{number<<3 | 2, byte(len(content))}, content...)
}

// message is a PublishRequest with a payload of 20 bytes.
func message(n int) []byte {
	return append(field(1, []byte(topic)), field(2, fmt.Appendf(nil, "%020d", n))...)
}

// open is the first SessionRequest.
func open(id string) []byte {
	subscription := field(2, field(1, []byte("peers.>")))
	return field(1, append(field(1, []byte(id)), subscription...))
}

// request is a SessionRequest after the first: mostly for a Progress, at times one that waits for the log.
func request(n int) []byte {
	switch n % 1000 {
	case 0:
		return field(2, field(1, []byte("other")))
	case 500:
		return field(3, []byte("other"))
	default:
		return []byte{4 << 3, 1}
	}
}

// kind is the number of the first field.
func kind(response []byte) int {
	if len(response) == 0 {
		return 0
	}
	return int(response[0] >> 3)
}

// published is the first field of a BulkPublishResponse.
func published(response []byte) uint64 {
	if kind(response) != 1 {
		return 0
	}
	count, _ := binary.Uvarint(response[1:])
	return count
}

// raw passes messages as they are.
type raw struct{}

func (raw) Name() string { return "proto" }

func (raw) Marshal(value any) ([]byte, error) { return *value.(*[]byte), nil }

func (raw) Unmarshal(data []byte, into any) error {
	*into.(*[]byte) = append([]byte(nil), data...)
	return nil
}
