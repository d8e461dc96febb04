package filefence

import (
	"bufio"
	"bytes"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"strconv"
	"strings"

	"github.com/baton-ha/baton/fence"
)

// ErrDamaged is returned, wrapped, when a version is not what was written, or when one that must be there is missing. If it is
// the newest, the highest token is not known, and everything is refused.
var ErrDamaged = errors.New("filefence: a version is damaged")

// A head is the first line of a version:
//
//	baton-file 1 NUMBER TOKEN ID BEFORE CONTENT CONTENTID SIZE SUM CHECK
//
// Numbers have 20 digits, ids 32 hex digits, the CRC-32Cs of the content (SUM) and of the line before it (CHECK) eight hex
// digits. So the line's length depends on the token alone, and it can be written anew in front of the content.
type head struct {
	number    uint64
	token     fence.Token
	id        string // of this version, random
	before    string // id of number-1
	content   uint64 // number of the newest version that has content, perhaps this one; 0 if there is none yet
	contentID string // its id
	size      int64  // of the content
	sum       uint32 // of the content
}

const (
	magic   = "baton-file 1"
	noID    = "00000000000000000000000000000000"
	maxHead = 1024 // bytes; more than any line has
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

func newID() string {
	var b [16]byte
	_, _ = rand.Read(b[:]) // never fails
	return hex.EncodeToString(b[:])
}

func (h *head) line() []byte {
	line := fmt.Appendf(nil, "%s %020d %s %s %s %020d %s %020d %08x ", magic,
		h.number, h.token, h.id, h.before, h.content, h.contentID, h.size, h.sum)
	return fmt.Appendf(line, "%08x\n", crc32.Checksum(line, castagnoli))
}

// readHead reads the line of a version, and leaves the reader at the content.
func readHead(r *bufio.Reader, want uint64) (head, error) {
	line, err := r.ReadSlice('\n')
	if err != nil && err != io.EOF && !errors.Is(err, bufio.ErrBufferFull) {
		return head{}, err
	}
	var h head
	fields, wrong := strings.Fields(string(line)), error(nil)
	number := func(i, base, bits int) uint64 {
		n, err := strconv.ParseUint(fields[i], base, bits)
		wrong = errors.Join(wrong, err)
		return n
	}
	if len(fields) == 11 { // the magic and the check are compared below
		h = head{number: number(2, 10, 64), id: fields[4], before: fields[5], content: number(6, 10, 64), contentID: fields[7],
			size: int64(number(8, 10, 63)), sum: uint32(number(9, 16, 32))}
		h.token, err = fence.Parse(fields[3])
	}
	if err != nil || wrong != nil || h.number != want || !bytes.Equal(line, h.line()) {
		return head{}, fmt.Errorf("%w: number %d does not begin with the line of a version", ErrDamaged, want)
	}
	return h, nil
}
