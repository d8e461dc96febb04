package core

import (
	"bytes"
	"encoding/binary"
	"hash/crc32"
	"testing"
)

// TestAppendParts: parts hold the records from one on as they are in the batch, and their checksums are what comes out of it; a batch in which
// anything differs gives none.
func TestAppendParts(t *testing.T) {
	const first, count = 5, 9
	b := MakeBatch(3, nil)
	var records [][]byte
	for i := range count {
		records = append(records, bytes.Repeat([]byte{byte('a' + i)}, (i*37)%101))
		b.Add(records[i])
	}
	data := b.Seal(first)
	h, err := ParseHeader(data)
	if err != nil {
		t.Fatal(err)
	}
	for from := uint64(1); from < first+count; from++ {
		for _, most := range []int{1, 100, 150, 1 << 20} {
			parts, ok := AppendParts(nil, h, data, from, most)
			if !ok {
				t.Fatalf("from %d, %d bytes: none", from, most)
			}
			next := max(from, first)
			for _, p := range parts {
				if p.First != next || p.Count == 0 || len(p.Data) > most && p.Count > 1 {
					t.Fatalf("from %d, %d bytes: part of %d bytes, %d records from %d on; %d is next", from, most, len(p.Data), p.Count, p.First, next)
				}
				if crc32.Update(p.Before, crc32.MakeTable(crc32.Castagnoli), p.Data) != p.After {
					t.Errorf("from %d, %d bytes: checksum of the part at %d", from, most, p.First)
				}
				rest := p.Data
				for range p.Count {
					want := records[next-first]
					n := int(binary.LittleEndian.Uint32(rest))
					if got := rest[RecordHeader : RecordHeader+n]; !bytes.Equal(got, want) {
						t.Errorf("record %d is %q", next, got)
					}
					rest, next = rest[RecordHeader+n:], next+1
				}
				if len(rest) > 0 {
					t.Errorf("%d bytes behind the last record of a part", len(rest))
				}
			}
			if next != first+count {
				t.Errorf("from %d, %d bytes: the parts end before record %d", from, most, next)
			}
		}
	}
	for i := range data {
		damaged := bytes.Clone(data)
		damaged[i] ^= 4
		h, err := ParseHeader(damaged)
		if err != nil {
			continue
		}
		if parts, ok := AppendParts(nil, h, damaged, first+3, 100); ok || len(parts) > 0 {
			t.Errorf("byte %d is damaged: %d parts, %v", i, len(parts), ok)
		}
	}
	h.Requests = true
	if _, ok := AppendParts(nil, h, data, first, 100); ok {
		t.Error("parts of a batch with requests")
	}
}
