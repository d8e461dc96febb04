package core

import (
	"encoding/binary"

	"go.etcd.io/raft/v3/raftpb"
)

// A request is what stands in a batch before the first record of one.
type request struct {
	id    RequestID
	count uint32 // of records
}

func requestOf(b []byte) request {
	word := func(i int) uint64 { return binary.LittleEndian.Uint64(b[8*i:]) }
	return request{RequestID{SessionID{word(0), word(1)}, word(2), word(3)}, binary.LittleEndian.Uint32(b[32:])}
}

// RequestSize is how many bytes of a batch a request takes beside its records.
const RequestSize = requestSize

// AddRequest appends copies of the records of a request, one or more.
func (b *Batch) AddRequest(id RequestID, records [][]byte) {
	var head [requestSize]byte
	for i, v := range [...]uint64{id.Session.Epoch, id.Session.Number, id.Number, id.Done} {
		binary.LittleEndian.PutUint64(head[8*i:], v)
	}
	binary.LittleEndian.PutUint32(head[32:], uint32(len(records)))
	b.requests = true
	b.add(head[:], records[0])
	for _, r := range records[1:] {
		b.Add(r)
	}
}

// Requests reports whether some records of an apply belong to requests.
func (a *Apply) Requests() bool { return a.requests }

// ApplyRequests takes note of the requests in accepted entries, one behind the other. given are the state machine's answers to all
// their records; nil: there are none.
func (t *Sessions) ApplyRequests(accepted []*raftpb.Entry, given [][]byte) {
	at := 0 // in given
	for _, e := range accepted {
		data := e.GetData()
		h, err := ParseHeader(data)
		if err != nil {
			panic(err) // it was accepted
		}
		if !h.Requests {
			at += int(h.Count)
			continue
		}
		rest := data[h.size:]
		for i := range int(h.Count) {
			n := uint64(binary.LittleEndian.Uint32(rest))
			rest = rest[RecordHeader:]
			if n&requestFlag != 0 {
				n &^= requestFlag
				r := requestOf(rest)
				out := Outcome{Index: h.First + uint64(i)}
				if given != nil {
					out.Answers = given[at+i:][:r.count:r.count]
				}
				t.Apply(r.id, out)
				rest = rest[requestSize:]
			}
			rest = rest[n:]
		}
		at += int(h.Count)
	}
}
