//go:build linux

package agent

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"time"

	"golang.org/x/sys/unix"
)

// add adds the address to its device; one that is there already is left. A label says whose it is.
func (a Address) add() error {
	return a.change(unix.RTM_NEWADDR, unix.NLM_F_CREATE|unix.NLM_F_REPLACE)
}

// remove removes the address; one that is not there is no error.
func (a Address) remove() error {
	err := a.change(unix.RTM_DELADDR, 0)
	if errors.Is(err, unix.EADDRNOTAVAIL) {
		return nil
	}
	return err
}

// change asks the kernel, over rtnetlink(7).
func (a Address) change(what uint16, flags uint16) error {
	dev, err := net.InterfaceByName(a.Device)
	if err != nil {
		return fmt.Errorf("address %s: %w", a.IP, err)
	}
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.NETLINK_ROUTE)
	if err != nil {
		return fmt.Errorf("address %s: %w", a.IP, err)
	}
	defer unix.Close(fd)
	ip := a.IP.Addr().As4()
	body := []byte{unix.AF_INET, byte(a.IP.Bits()), 0, unix.RT_SCOPE_UNIVERSE}
	body = binary.NativeEndian.AppendUint32(body, uint32(dev.Index))
	for _, attribute := range []uint16{unix.IFA_LOCAL, unix.IFA_ADDRESS} {
		body = binary.NativeEndian.AppendUint16(body, 8)
		body = binary.NativeEndian.AppendUint16(body, attribute)
		body = append(body, ip[:]...)
	}
	m := binary.NativeEndian.AppendUint32(nil, uint32(unix.SizeofNlMsghdr+len(body)))
	m = binary.NativeEndian.AppendUint16(m, what)
	m = binary.NativeEndian.AppendUint16(m, unix.NLM_F_REQUEST|unix.NLM_F_ACK|flags)
	m = append(m, make([]byte, 8)...) // sequence and port: the kernel answers this socket alone
	m = append(m, body...)
	timeout := unix.NsecToTimeval(int64(5 * time.Second))
	if err = unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &timeout); err == nil {
		err = unix.Sendto(fd, m, 0, &unix.SockaddrNetlink{Family: unix.AF_NETLINK})
	}
	if err != nil {
		return fmt.Errorf("address %s: %w", a.IP, err)
	}
	answer := make([]byte, 4096)
	n, _, err := unix.Recvfrom(fd, answer, 0)
	if err != nil || n < unix.SizeofNlMsghdr+4 {
		return fmt.Errorf("address %s: the kernel's answer of %d bytes: %w", a.IP, n, err)
	}
	if code := int32(binary.NativeEndian.Uint32(answer[unix.SizeofNlMsghdr:])); code != 0 {
		return fmt.Errorf("address %s on %s: %w", a.IP, a.Device, unix.Errno(-code))
	}
	return nil
}

// shout tells the neighbours that the address is here: a gratuitous ARP request and reply (RFC 5227, section 3), because some listen to
// the one and some to the other. Devices that speak no ARP need none.
func (a Address) shout() error {
	dev, err := net.InterfaceByName(a.Device)
	if err != nil || len(dev.HardwareAddr) != 6 || dev.Flags&net.FlagLoopback != 0 {
		return err
	}
	const arp = unix.ETH_P_ARP>>8 | unix.ETH_P_ARP&0xff<<8 // big-endian
	fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("tell of address %s: %w", a.IP, err)
	}
	defer unix.Close(fd)
	to := &unix.SockaddrLinklayer{Protocol: arp, Ifindex: dev.Index, Halen: 6, Addr: [8]byte{0xff, 0xff, 0xff, 0xff, 0xff, 0xff}}
	ip := a.IP.Addr().AsSlice()
	for operation := byte(1); operation <= 2; operation++ {
		p := []byte{0, 1, 8, 0, 6, 4, 0, operation}
		p = append(append(p, dev.HardwareAddr...), ip...)
		p = append(append(p, to.Addr[:6]...), ip...)
		if err := unix.Sendto(fd, p, 0, to); err != nil {
			return fmt.Errorf("tell of address %s: %w", a.IP, err)
		}
	}
	return nil
}
