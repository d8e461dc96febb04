package transport

// The lines of this package that are said again and again when something is wrong.
const (
	lineCannotConnect = "cannot connect"
	lineLost          = "connection lost"
	lineGone          = "peer is gone: its process has ended"
	lineRefused       = "refused a connection"
	lineFailed        = "handshake failed"
	lineCannotAccept  = "cannot accept"
	lineMalformed     = "malformed bytes, connection closed"
	lineNotTaken      = "snapshot not taken"
	lineNotForWire    = "message is not for the wire, dropped"
	lineTooLarge      = "message is too large, dropped"

	stranger = "stranger" // whoever says a name that is no peer's
)
