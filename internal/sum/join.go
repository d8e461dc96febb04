package sum

// A checksum is the remainder of a polynomial over GF(2), whose coefficients are the bits of what was summed, by one of degree 32. To append n bytes
// multiplies it by x^8n, and adding is exclusive or; that a CRC begins and ends with all bits inverted falls out of the sum of two.
// A remainder is a uint32 whose highest bit is the coefficient of x^0, as in zlib's crc32_combine.

// joining is how long data is that is better joined than read.
const joining = 4 << 10

// polynomial is CRC32C's, without x^32.
const polynomial = 0x82f63b78

var (
	// reduced[d] is x^4 times what has the low bits d, which are the highest powers, and no others.
	reduced [16]uint32
	// powers[i][d] is x^(8·d·16^i).
	powers [16][16]uint32
)

func init() {
	for d := range reduced {
		r := uint32(d)
		for range 4 {
			r = timesX(r)
		}
		reduced[d] = r
	}
	base := uint32(1) << 31
	for range 8 {
		base = timesX(base)
	}
	for i := range powers {
		powers[i][0] = 1 << 31
		for d := range 15 {
			powers[i][d+1] = times(powers[i][d], base)
		}
		base = times(powers[i][15], base)
	}
}

// Join returns the checksum of two pieces, one behind the other, of which the second has n bytes. It takes some 100 ns, however many they are.
func Join(first, second uint32, n int) uint32 {
	for i := 0; n > 0; i, n = i+1, n>>4 {
		if d := n & 15; d != 0 {
			first = times(first, powers[i][d])
		}
	}
	return first ^ second
}

// timesX returns a·x.
func timesX(a uint32) uint32 { return a>>1 ^ polynomial*(a&1) }

// times returns a·b, of which it takes four coefficients at a time, the highest first.
func times(a, b uint32) (product uint32) {
	var multiples [16]uint32 // of a, by the polynomials of degree 3
	multiples[8] = a
	multiples[4] = timesX(a)
	multiples[2] = timesX(multiples[4])
	multiples[1] = timesX(multiples[2])
	for _, high := range [...]int{2, 4, 8} {
		for low := 1; low < high; low++ {
			multiples[high|low] = multiples[high] ^ multiples[low]
		}
	}
	for shift := 0; shift < 32; shift += 4 {
		product = product>>4 ^ reduced[product&15] ^ multiples[b>>shift&15]
	}
	return product
}
