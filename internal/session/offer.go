package session

// Await waits until something can be read, or the stream has come to its end, and gives take what comes meanwhile: at once, and on the goroutine that
// reads the connection, which costs no wake-up. take returns how many of the bytes it has taken; the rest is to be read. It must not block, nor keep
// what it was given; it is not called any more when Await has returned. A panic of it ends the stream. Await is for who reads, and says nothing of an error, as the next Read does.
func (st *Stream) Await(take func(b []byte) int) {
	st.mu.Lock()
	defer st.mu.Unlock()
	st.taker = take
	for st.taking || st.in.n == 0 && st.overLocked(true) == nil {
		st.mu.Unlock()
		<-st.readable
		st.mu.Lock()
	}
	st.taker = nil
}

// offerLocked gives what has come to the taker, if there is one and nothing before it waits to be read, and returns the rest. It gives mu up meanwhile.
func (st *Stream) offerLocked(b []byte) (rest []byte) {
	if st.taker == nil || st.in.n > 0 {
		return b
	}
	take := st.taker
	st.taking = true
	st.mu.Unlock()
	n := st.offer(take, b)
	st.mu.Lock()
	st.taking = false
	if st.err != nil { // meanwhile: nobody reads the rest
		Signal(st.readable)
		return nil
	}
	st.takenLocked(n)
	return b[n:]
}

func (st *Stream) offer(take func([]byte) int, b []byte) (n int) {
	defer func() {
		if p := recover(); p != nil {
			st.end(st.m.panicked(st, p), true)
		}
	}()
	return take(b)
}
