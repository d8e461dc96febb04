package transport

import (
	"github.com/baton-ha/baton/internal/sum"

	"google.golang.org/protobuf/encoding/protowire"
)

// sumBody returns the checksum of the body of a message. Of the data of its entries after goes on with it, and says whether that is sound: it may
// know of a checksum in it, or find out two at once. What cannot be decoded is summed all the same.
func sumBody(body []byte, after func(before uint32, data []byte) (sum uint32, sound bool)) (total uint32, sound bool) {
	sound = true
	summed := 0 // bytes of the body
	for rest := body; len(rest) > 0; {
		f, behind, err := nextField(rest)
		if err != nil {
			break
		}
		rest = behind
		if f.num != fieldEntries || f.typ != protowire.BytesType {
			continue
		}
		end := len(body) - len(behind) // of the entry
		for inner := f.data; len(inner) > 0; {
			g, behind, err := nextField(inner)
			if err != nil {
				break
			}
			inner = behind
			if g.num != fieldEntryData || g.typ != protowire.BytesType {
				continue
			}
			to := end - len(behind)
			total = sum.Update(total, body[summed:to-len(g.data)])
			var ok bool
			total, ok = after(total, g.data)
			sound, summed = sound && ok, to
		}
	}
	return sum.Update(total, body[summed:]), sound
}

// believed goes on with a checksum over what is to be sent. If it is not what was sealed any more, who receives it finds that.
func believed(before uint32, data []byte) (uint32, bool) { return sum.After(before, data), true }
