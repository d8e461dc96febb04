package fence

import (
	"cmp"
	"encoding/binary"
	"errors"
	"fmt"
	"strconv"
	"strings"
)

// MaxName is the longest cluster or holder name a token carries, in bytes.
const MaxName = 128

// binaryVersion is the first byte of a token's binary form.
const binaryVersion = 1

// ErrInvalid is returned, wrapped, by [Parse] and the Unmarshal methods when the input is not a
// token, and by the Marshal methods when the token is not [Token.Valid].
var ErrInvalid = errors.New("fence: invalid token")

// A Token proves in which epoch of which cluster its holder became Active. It is what Kleppmann
// calls a fencing token and HDFS's quorum journal a writer epoch: a resource that remembers the
// highest token it has seen and refuses lower ones cannot be written by a deposed Active, however
// late its request arrives.
//
// Tokens are small values: compare them with ==, use them as map keys, copy them freely. The zero
// Token is invalid and is accepted nowhere.
type Token struct {
	// Cluster is the name of the cluster that gave the token. Tokens of different clusters say
	// nothing about each other.
	Cluster string
	// Epoch counts the cluster's activations: 1, 2, 3 … It never falls and no two activations
	// share one.
	Epoch uint64
	// Holder is the name of the member that became Active in Epoch.
	Holder string
}

// Valid reports whether t could have been given by a cluster: an epoch of at least 1 and two names
// that [ValidName] accepts.
func (t Token) Valid() bool {
	return t.Epoch > 0 && ValidName(t.Cluster) && ValidName(t.Holder)
}

// Supersedes reports whether t fences off o: both are valid, of the same cluster, and t's epoch is
// the later one.
func (t Token) Supersedes(o Token) bool {
	return t.Valid() && o.Valid() && t.Cluster == o.Cluster && t.Epoch > o.Epoch
}

// Compare orders tokens by cluster, then epoch, then holder, and returns -1, 0 or +1. Only the order
// by epoch within one cluster means anything; the rest makes the order total, for sorting.
func (t Token) Compare(o Token) int {
	return cmp.Or(
		strings.Compare(t.Cluster, o.Cluster),
		cmp.Compare(t.Epoch, o.Epoch),
		strings.Compare(t.Holder, o.Holder),
	)
}

// String returns the text form "cluster/epoch/holder", or "none" for the zero Token.
func (t Token) String() string {
	if t == (Token{}) {
		return "none"
	}
	return t.Cluster + "/" + strconv.FormatUint(t.Epoch, 10) + "/" + t.Holder
}

// Parse reads the text form that [Token.String] writes. Anything but the form of a valid token is
// an error that wraps [ErrInvalid].
func Parse(s string) (Token, error) {
	parts := strings.Split(s, "/")
	if len(parts) != 3 {
		return Token{}, fmt.Errorf("%w: %q is not cluster/epoch/holder", ErrInvalid, clip(s))
	}
	epoch, err := strconv.ParseUint(parts[1], 10, 64)
	t := Token{Cluster: parts[0], Epoch: epoch, Holder: parts[2]}
	if err != nil || !t.Valid() || t.String() != s {
		return Token{}, fmt.Errorf("%w: %q", ErrInvalid, clip(s))
	}
	return t, nil
}

// MarshalText implements [encoding.TextMarshaler]. The zero Token becomes the empty text.
func (t Token) MarshalText() ([]byte, error) {
	if t == (Token{}) {
		return nil, nil
	}
	if !t.Valid() {
		return nil, fmt.Errorf("%w: %s", ErrInvalid, clip(t.String()))
	}
	return []byte(t.String()), nil
}

// UnmarshalText implements [encoding.TextUnmarshaler]: the empty text becomes the zero Token. On an error
// t is unchanged.
func (t *Token) UnmarshalText(b []byte) error {
	if len(b) == 0 {
		*t = Token{}
		return nil
	}
	p, err := Parse(string(b))
	if err != nil {
		return err
	}
	*t = p
	return nil
}

// MarshalBinary implements [encoding.BinaryMarshaler]. The form is a version byte (1), the epoch as
// eight bytes, big endian, and the two names, each with its length in one byte before it.
func (t Token) MarshalBinary() ([]byte, error) { return t.AppendBinary(nil) }

// AppendBinary implements [encoding.BinaryAppender].
func (t Token) AppendBinary(b []byte) ([]byte, error) {
	if !t.Valid() {
		return b, fmt.Errorf("%w: %s", ErrInvalid, clip(t.String()))
	}
	b = append(b, binaryVersion)
	b = binary.BigEndian.AppendUint64(b, t.Epoch)
	b = append(append(b, byte(len(t.Cluster))), t.Cluster...)
	return append(append(b, byte(len(t.Holder))), t.Holder...), nil
}

// UnmarshalBinary implements [encoding.BinaryUnmarshaler]. On an error t is unchanged.
func (t *Token) UnmarshalBinary(b []byte) error {
	if len(b) < 9 || b[0] != binaryVersion {
		return fmt.Errorf("%w: binary form of %d bytes", ErrInvalid, len(b))
	}
	p := Token{Epoch: binary.BigEndian.Uint64(b[1:])}
	rest := b[9:]
	for _, name := range []*string{&p.Cluster, &p.Holder} {
		if len(rest) == 0 {
			return fmt.Errorf("%w: binary form is cut short", ErrInvalid)
		}
		end := 1 + int(rest[0])
		if len(rest) < end {
			return fmt.Errorf("%w: binary form is cut short", ErrInvalid)
		}
		*name, rest = string(rest[1:end]), rest[end:]
	}
	if len(rest) != 0 || !p.Valid() {
		return fmt.Errorf("%w: binary form", ErrInvalid)
	}
	*t = p
	return nil
}

// ValidName reports whether s may name a cluster or a member: 1 to [MaxName] bytes, each a letter or
// digit of ASCII or one of '.', '_', '-'. Such names need no quoting in a token, a path or a URL.
func ValidName(s string) bool {
	if len(s) == 0 || len(s) > MaxName {
		return false
	}
	for i := range len(s) {
		switch c := s[i]; {
		case 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', '0' <= c && c <= '9', c == '.', c == '_', c == '-':
		default:
			return false
		}
	}
	return true
}

// clip keeps hostile input from filling an error message.
func clip(s string) string {
	if len(s) > 3*MaxName {
		return s[:3*MaxName] + "…"
	}
	return s
}
