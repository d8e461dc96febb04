package session

// Signal puts a token into a channel of size 1, if there is none.
func Signal(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}
