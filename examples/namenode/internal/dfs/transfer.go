package dfs

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"
)

// This file is how bytes go through a pipeline of DataNodes, and come from one.
//
//	POST /blocks/ID?gen=…&was=…&at=…&crc=…&last=…&sum=…&sync=…&next=ADDR,ADDR    a packet
//	GET  /blocks/ID?gen=…                                                       a complete replica
//
// A DataNode passes a packet on while it writes it, and answers when all behind it have: the answer to a packet is the
// acknowledgement of the whole pipeline. A packet says at which offset it belongs, so it can be sent again.

const (
	// MaxPacket is the most bytes of one packet.
	MaxPacket = 1 << 20
	// MaxBlock is the most bytes of one block. A reader holds one in memory, until its checksum was seen.
	MaxBlock = 64 << 20
	// Hop is how long one DataNode may take with a packet. Each waits so much longer as there are others behind it.
	Hop = 2 * time.Second
)

// FailedHeader names the DataNode, by its address, because of which a packet was not acknowledged.
const FailedHeader = "Failed-DataNode"

// A Packet is a part of a block on its way.
type Packet struct {
	ID, Gen uint64
	Was     uint64 // if not 0: replicas of this generation or a later one take on Gen, and lose what is behind At
	At      int64  // where the data belongs
	Last    bool   // the replica is complete with it, and has the checksum Sum
	Sum     uint32
	Sync    bool // acknowledge when all so far is on stable storage
	Data    []byte
}

var (
	// ErrDamaged says that bytes are not those that were written.
	ErrDamaged = errors.New("the checksum is wrong")
	// ErrNoReplica says that a DataNode does not have what is asked for, or not any more.
	ErrNoReplica = errors.New("there is no such replica")
)

// query is the form of a packet in an URL.
func (p *Packet) query() string {
	q := fmt.Sprintf("gen=%d&was=%d&at=%d&crc=%d", p.Gen, p.Was, p.At, Sum(0, p.Data))
	if p.Last {
		q += fmt.Sprintf("&last=1&sum=%d", p.Sum)
	}
	if p.Sync {
		q += "&sync=1"
	}
	return q
}

// ReadPacket reads a packet from a request for it. next are the DataNodes behind this one.
func ReadPacket(w http.ResponseWriter, r *http.Request) (p *Packet, next []string, err error) {
	q := r.URL.Query()
	number := func(text string) (n uint64) {
		if text != "" && err == nil {
			n, err = strconv.ParseUint(text, 10, 63)
		}
		return n
	}
	p = &Packet{
		ID: number(r.PathValue("id")), Gen: number(q.Get("gen")), Was: number(q.Get("was")), At: int64(number(q.Get("at"))),
		Last: q.Has("last"), Sum: uint32(number(q.Get("sum"))), Sync: q.Has("sync"),
	}
	crc := uint32(number(q.Get("crc")))
	if err != nil {
		return nil, nil, err
	}
	if p.Data, err = io.ReadAll(http.MaxBytesReader(w, r.Body, MaxPacket)); err != nil {
		return nil, nil, err
	}
	if Sum(0, p.Data) != crc {
		return nil, nil, ErrDamaged
	}
	if list := q.Get("next"); list != "" {
		next = strings.Split(list, ",")
	}
	return p, next, nil
}

// A PipelineError says that a packet was not acknowledged, because of one DataNode.
type PipelineError struct {
	Addr string
	Err  error
}

func (e *PipelineError) Error() string { return fmt.Sprintf("DataNode %s: %v", e.Addr, e.Err) }
func (e *PipelineError) Unwrap() error { return e.Err }

// Send sends a packet through a pipeline of DataNodes, and returns when all have it. The error is a *[PipelineError].
func Send(ctx context.Context, p *Packet, pipeline []string) error {
	ctx, cancel := context.WithTimeout(ctx, time.Duration(len(pipeline))*Hop)
	defer cancel()
	to := pipeline[0]
	u := fmt.Sprintf("http://%s/blocks/%d?%s", to, p.ID, p.query())
	if len(pipeline) > 1 {
		u += "&next=" + url.QueryEscape(strings.Join(pipeline[1:], ","))
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, u, bytes.NewReader(p.Data))
	if err != nil {
		return &PipelineError{to, err}
	}
	resp, err := transfers.Do(req)
	if err != nil {
		return &PipelineError{to, err}
	}
	defer resp.Body.Close()
	text, _ := io.ReadAll(io.LimitReader(resp.Body, 4<<10))
	if resp.StatusCode == http.StatusNoContent {
		return nil
	}
	if failed := resp.Header.Get(FailedHeader); failed != "" {
		to = failed
	}
	return &PipelineError{to, errors.New(strings.TrimSpace(string(text)))}
}

// Fetch reads a block from one DataNode and checks it.
func Fetch(ctx context.Context, b Block, addr string) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, 5*Hop)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, fmt.Sprintf("http://%s/blocks/%d?gen=%d", addr, b.ID, b.Gen), nil)
	if err != nil {
		return nil, err
	}
	resp, err := transfers.Do(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	switch resp.StatusCode {
	case http.StatusOK:
	case http.StatusNotFound:
		return nil, fmt.Errorf("block %d at DataNode %s: %w", b.ID, addr, ErrNoReplica)
	case http.StatusGone:
		return nil, fmt.Errorf("block %d at DataNode %s: %w", b.ID, addr, ErrDamaged)
	default:
		return nil, fmt.Errorf("DataNode %s: %s", addr, resp.Status)
	}
	data, err := io.ReadAll(io.LimitReader(resp.Body, MaxBlock+1))
	if err == nil && (int64(len(data)) != b.Len || Sum(0, data) != b.Sum) {
		err = fmt.Errorf("block %d at DataNode %s: %w", b.ID, addr, ErrDamaged)
	}
	return data, err
}

// transfers are made by it. Where nobody listens that is known at once.
var transfers = &http.Client{Transport: &http.Transport{
	DialContext:         (&net.Dialer{Timeout: Hop / 2}).DialContext,
	MaxIdleConnsPerHost: 64,
	IdleConnTimeout:     5 * time.Second,
}}
