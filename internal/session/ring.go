package session

// ring holds bytes in order of arrival. It grows as they come.
type ring struct {
	buf []byte
	at  int // of the first
	n   int
}

// write adds p. There is never more in it than most.
func (r *ring) write(p []byte, most int) {
	if need := r.n + len(p); need > len(r.buf) {
		size := max(2*len(r.buf), 1<<10)
		for size < need {
			size *= 2
		}
		grown := make([]byte, max(min(size, most), need))
		n := r.read(grown)
		r.buf, r.at, r.n = grown, 0, n
	}
	end := (r.at + r.n) % len(r.buf)
	n := copy(r.buf[end:], p)
	copy(r.buf, p[n:])
	r.n += len(p)
}

// read moves up to len(p) bytes into p.
func (r *ring) read(p []byte) int {
	total := 0
	for total < len(p) && r.n > 0 {
		n := copy(p[total:], r.buf[r.at:min(r.at+r.n, len(r.buf))])
		r.at, r.n, total = (r.at+n)%len(r.buf), r.n-n, total+n
	}
	return total
}
