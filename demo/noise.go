package demo

// All of the landscape is computed in integers: floating point may be contracted differently from
// one processor to the next, and every run is to write the same bytes.

// mix is a hash of two numbers (the finaliser of splitmix64).
func mix(a, b uint64) uint64 {
	x := a*0x9e3779b97f4a7c15 + b*0xc2b2ae3d27d4eb4f + 0x165667b19e3779f9
	x = (x ^ x>>30) * 0xbf58476d1ce4e5b9
	x = (x ^ x>>27) * 0x94d049bb133111eb
	return x ^ x>>31
}

// at hashes a point of the plane.
func at(seed uint64, x, y int) uint64 { return mix(seed, uint64(uint32(x))<<32|uint64(uint32(y))) }

// Fixed point: one is 1<<q.
const (
	q   = 12
	one = 1 << q
)

// gradients are sixteen directions of length one.
var gradients = [16][2]int{
	{4096, 0}, {3784, 1567}, {2896, 2896}, {1567, 3784}, {0, 4096}, {-1567, 3784}, {-2896, 2896}, {-3784, 1567},
	{-4096, 0}, {-3784, -1567}, {-2896, -2896}, {-1567, -3784}, {0, -4096}, {1567, -3784}, {2896, -2896}, {3784, -1567},
}

// smooth is 3t²-2t³.
func smooth(t int) int { return t * t >> q * (3*one - 2*t) >> q }

// hills adds gradient noise to a row of pixels beginning at (x0, y): a lattice of 1<<shift pixels,
// values within ±amp, mostly within half of that.
func hills(row []int, seed uint64, x0, y int, shift uint, amp int) {
	cell := 1 << shift
	cy := y >> shift
	fy := (y & (cell - 1)) << q >> shift
	sy := smooth(fy)
	// Along a row a corner pair's influence is linear: slope·x + level.
	side := func(cx int) (slope, level int) {
		a := gradients[at(seed, cx, cy)&15]
		b := gradients[at(seed, cx, cy+1)&15]
		slope = a[0] + (b[0]-a[0])*sy>>q
		la, lb := a[1]*fy>>q, b[1]*(fy-one)>>q
		return slope, la + (lb-la)*sy>>q
	}
	for i := 0; i < len(row); {
		cx := (x0 + i) >> shift
		end := min(len(row), (cx+1)<<shift-x0)
		slopeL, levelL := side(cx)
		slopeR, levelR := side(cx + 1)
		for ; i < end; i++ {
			fx := ((x0 + i) & (cell - 1)) << q >> shift
			l := slopeL*fx>>q + levelL
			r := slopeR*(fx-one)>>q + levelR
			row[i] += (l + (r-l)*smooth(fx)>>q) * amp >> q
		}
	}
}

// fractal sets a row to octaves of hills from 1<<from down to 1<<to pixels, each little more than half as high.
func fractal(row []int, seed uint64, x0, y int, from, to uint, amp int) {
	clear(row)
	for shift := from; shift >= to; shift-- {
		s := mix(seed, uint64(shift))
		// Each octave's lattice lies elsewhere, or its lines would show.
		hills(row, s, x0+int(s>>40&1023), y+int(s>>50&1023), shift, amp)
		amp = amp * 9 / 16
	}
}
