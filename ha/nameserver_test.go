package ha_test

import (
	"encoding/binary"
	"encoding/json"
	"fmt"
	"net"
	"os"
	"slices"
	"strings"
)

// serveNames is a name server for A records: the file at path has names and addresses, as JSON. It does not return.
func serveNames(path string) error {
	conn, err := net.ListenPacket("udp4", ":53")
	if err != nil {
		return err
	}
	fmt.Println("C")
	for b := make([]byte, 512); ; {
		n, from, err := conn.ReadFrom(b)
		if err != nil {
			return err
		}
		text, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		var addrs map[string]string
		if err := json.Unmarshal(text, &addrs); err != nil {
			return err
		}
		if answer := answerName(b[:n], addrs); answer != nil {
			_, _ = conn.WriteTo(answer, from) // who asks asks again
		}
	}
}

// answerName answers a question (RFC 1035, section 4), nil if it is none. A name is known for five seconds.
func answerName(q []byte, addrs map[string]string) []byte {
	const header = 12
	if len(q) < header || binary.BigEndian.Uint16(q[4:]) != 1 {
		return nil
	}
	var labels []string
	at := header
	for at < len(q) && q[at] > 0 && at+1+int(q[at]) < len(q) {
		labels = append(labels, string(q[at+1:at+1+int(q[at])]))
		at += 1 + int(q[at])
	}
	end := at + 5 // with the type and the class
	if end > len(q) {
		return nil
	}
	a := slices.Clone(q[:end])
	copy(a[2:], []byte{0x84, 0, 0, 1, 0, 0, 0, 0, 0, 0}) // an answer, with authority
	ip := net.ParseIP(addrs[strings.ToLower(strings.Join(labels, "."))]).To4()
	switch {
	case ip == nil:
		a[3] = 3 // there is no such name
	case binary.BigEndian.Uint16(q[at+1:]) == 1:
		a[7] = 1
		a = append(a, 0xc0, header, 0, 1, 0, 1, 0, 0, 0, 5, 0, 4)
		a = append(a, ip...)
	}
	return a
}
