package client_test

import (
	"context"
	"fmt"
	"hash/crc32"
	"io"
	"iter"
	"net"
	"testing"

	"github.com/baton-ha/baton/ha"
	"github.com/baton-ha/baton/ha/client"
)

// BenchmarkTail reads a log from outside, over loopback, from a member that has it in memory; an iteration reads all of it. Compare
// with BenchmarkLoopback.
func BenchmarkTail(b *testing.B) { benchmarkTail(b, (*client.Client).Subscribe) }

// BenchmarkTailBorrow is the same for who borrows the records.
func BenchmarkTailBorrow(b *testing.B) { benchmarkTail(b, (*client.Client).Borrow) }

func benchmarkTail(b *testing.B, tail func(*client.Client, context.Context, uint64) iter.Seq2[client.Entry, error]) {
	for _, payload := range []int{128, 1 << 10, 16 << 10} {
		b.Run(fmt.Sprintf("payload=%d", payload), func(b *testing.B) {
			const size = 32 << 20
			count := size / payload
			c := newCluster(b, 1, func(cfg *ha.Config) { cfg.CacheBytes, cfg.MemoryBytes = 192<<20, 1<<30 })
			n, token := c.active()
			records := make([][]byte, min(count, (2<<20)/payload))
			for i := range records {
				records[i] = make([]byte, payload)
			}
			for done := 0; done < count; done += len(records) {
				if _, err := n.AppendBatch(b.Context(), token, records[:min(len(records), count-done)]...); err != nil {
					b.Fatal(err)
				}
			}
			cl := dial(b, c.addrs()...)
			b.SetBytes(int64(count * payload))
			b.ReportAllocs()
			for b.Loop() {
				if err := readAll(tail(cl, b.Context(), 1), 1, count); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric(float64(b.N)*float64(count)/b.Elapsed().Seconds(), "records/s")
		})
	}
}

// BenchmarkLoopback is what a plain connection brings, read in pieces of 64 KiB: one that writes the same piece again and again and reads all to the same place, and
// one that does what a tail has to: it writes what is in memory, reads it to memory that is the reader's own, and verifies it there.
func BenchmarkLoopback(b *testing.B) {
	const size, piece = 32 << 20, 64 << 10
	for _, tail := range []bool{false, true} {
		b.Run(map[bool]string{false: "plain", true: "own-and-verified"}[tail], func(b *testing.B) {
			l, err := net.Listen("tcp", "127.0.0.1:0")
			if err != nil {
				b.Fatal(err)
			}
			defer l.Close()
			from := make([]byte, piece)
			if tail {
				from = make([]byte, size)
			}
			go func() {
				conn, err := l.Accept()
				if err != nil {
					return
				}
				defer conn.Close()
				for err == nil {
					for at := 0; at < len(from) && err == nil; at += 4 * piece {
						_, err = conn.Write(from[at:min(at+4*piece, len(from))])
					}
				}
			}()
			conn, err := net.Dial("tcp", l.Addr().String())
			if err != nil {
				b.Fatal(err)
			}
			defer conn.Close()
			p, castagnoli := make([]byte, piece), crc32.MakeTable(crc32.Castagnoli)
			b.SetBytes(size)
			for b.Loop() {
				for range size / piece {
					if tail {
						p = make([]byte, piece)
					}
					if _, err := io.ReadFull(conn, p); err != nil {
						b.Fatal(err)
					}
					if tail && crc32.Checksum(p, castagnoli) == 1 {
						b.Fatal("of nothing but zeros")
					}
				}
			}
		})
	}
}
