package demo

// class is what covers the ground.
type class uint8

const (
	water class = iota
	marsh
	pasture
	woodland
	hedge
	moor
	rock
	snow
	crops   // the first of several
	nCrops  = 6
	classes = crops + nCrops
)

// levels is the number of steps of shade and tone.
const levels = 64

// Heights, of a range of some ±1400.
const (
	lakeHeight = -560
	moorHeight = 520
	rockHeight = 720
	snowHeight = 900
)

// Seeds of what does not change from year to year.
const (
	seedHeight = 1 + iota
	seedWet
	seedRiver
	seedParcel
	seedCrop
	seedTables
	seedGrain
	seedScale
)

// landscape computes what lies at a row of pixels. Pixels are those of the zone's 10 m lattice,
// x going east and y north, so it does not matter which tile asks. One goroutine uses it.
type landscape struct {
	year int

	// What is at the pixels of the row last asked for. shade is how lit the slope is, tone how
	// lush the growth, both below levels.
	class       []class
	shade, tone []uint8

	height, north, wet, river []int
	west                      [1]int // height west of the row
}

func newLandscape(year, width int) *landscape {
	return &landscape{
		year:  year,
		class: make([]class, width), shade: make([]uint8, width), tone: make([]uint8, width),
		height: make([]int, width), north: make([]int, width), wet: make([]int, width), river: make([]int, width),
	}
}

// row computes the pixels from (x0, y) eastwards.
func (l *landscape) row(x0, y int) {
	l.water(x0, y)
	fractal(l.north, seedHeight, x0, y+1, 9, 3, 1700)
	fractal(l.wet, seedWet, x0, y, 8, 4, 1200)
	fractal(l.west[:], seedHeight, x0-1, y, 9, 3, 1700)
	west := l.west[0]
	for i, h := range l.height {
		// Light from the north-west, as maps have it.
		l.shade[i] = level(2*(h-west) + 2*(h-l.north[i]) + h/50)
		west = h
		if l.class[i] == water {
			l.tone[i] = level(h / 40)
			continue
		}
		wet := l.wet[i]
		l.tone[i] = level(wet / 30)
		switch {
		case h > snowHeight+wet/4:
			l.class[i] = snow
		case h > rockHeight+wet/4:
			l.class[i] = rock
		case h > moorHeight+wet/4:
			l.class[i] = moor
		case wet > 210:
			l.class[i] = woodland
		case l.bank(i):
			l.class[i] = marsh
		default:
			l.class[i], l.tone[i] = l.field(x0+i, y, wet)
		}
	}
}

// water computes height and river, and marks which pixels are water; it is all that a landmask
// needs, and the same in every year.
func (l *landscape) water(x0, y int) {
	fractal(l.height, seedHeight, x0, y, 9, 3, 1700)
	fractal(l.river, seedRiver, x0, y, 9, 4, 1400)
	for i, h := range l.height {
		l.class[i] = pasture
		if r := abs(l.river[i]); h < lakeHeight || r < riverWidth(h) {
			l.class[i] = water
		}
	}
}

// riverWidth in units of river: wider in the plains, none in the hills.
func riverWidth(height int) int { return max(0, 34-height/14) }

// bank says whether a pixel lies beside water.
func (l *landscape) bank(i int) bool {
	h := l.height[i]
	return h < lakeHeight+60 || h < 300 && abs(l.river[i]) < riverWidth(h)+50
}

// field returns what grows at a pixel of farmland, and how well. Parcels are rectangles between
// hedges, laid out differently from one wetness to the next; crops change with the year.
func (l *landscape) field(x, y, wet int) (class, uint8) {
	// Directions as (a, b) with their length in sixteenths.
	ways := [...]struct{ a, b, length int }{{4, 1, 66}, {1, 3, 51}, {5, -2, 86}, {2, 1, 36}}
	district := min(max((wet+600)/200, 0), 3)
	w := ways[district]
	u, v := (w.a*x+w.b*y)*16, (w.a*y-w.b*x)*16
	seed := mix(seedParcel, uint64(district))
	wide := 34 * w.length
	iu := floorDiv(u, wide)
	strip := at(seed, iu, 0)
	long := (26 + int(strip%40)) * w.length
	v += int(strip>>8%1024) * w.length
	iv := floorDiv(v, long)
	if u-iu*wide < w.length || v-iv*long < w.length {
		return hedge, level(wet / 30)
	}
	parcel := at(seed, iu, iv)
	if parcel%5 == 0 {
		return pasture, level(wet/30 + int(parcel>>8%9) - 4)
	}
	crop := mix(parcel, mix(seedCrop, uint64(l.year)))
	return crops + class(crop%nCrops), level(wet/40 + int(crop>>8%17) - 8)
}

// level maps ±32 to 0…63.
func level(v int) uint8 { return uint8(min(max(v+levels/2, 0), levels-1)) }

func abs(v int) int { return max(v, -v) }

// floorDiv rounds towards minus infinity.
func floorDiv(a, b int) int {
	d := a / b
	if a%b < 0 {
		d--
	}
	return d
}
