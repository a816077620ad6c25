package grid

import "fmt"

// WKT returns the lattice's reference system, [Grid.EPSG], as WKT2:2019 (ISO 19162) in one line.
// It is what PROJ writes, without the description of the area of use.
func (g Grid) WKT() string {
	const zoneWidthDegrees, firstMeridian = 6, -177
	meridian := firstMeridian + (g.Zone-1)*zoneWidthDegrees
	if g.South {
		return fmt.Sprintf(utmWKT, g.Zone, "S", meridian, SouthernNorthing, g.EPSG())
	}
	return fmt.Sprintf(utmWKT, g.Zone, "N", meridian, 0, g.EPSG())
}

// utmWKT takes the zone, its hemisphere, its central meridian in degrees, the false northing in
// metres, and the EPSG code.
const utmWKT = `PROJCRS["WGS 84 / UTM zone %[1]d%[2]s",` +
	`BASEGEOGCRS["WGS 84",` +
	`ENSEMBLE["World Geodetic System 1984 ensemble",` +
	`MEMBER["World Geodetic System 1984 (Transit)"],` +
	`MEMBER["World Geodetic System 1984 (G730)"],` +
	`MEMBER["World Geodetic System 1984 (G873)"],` +
	`MEMBER["World Geodetic System 1984 (G1150)"],` +
	`MEMBER["World Geodetic System 1984 (G1674)"],` +
	`MEMBER["World Geodetic System 1984 (G1762)"],` +
	`MEMBER["World Geodetic System 1984 (G2139)"],` +
	`MEMBER["World Geodetic System 1984 (G2296)"],` +
	`ELLIPSOID["WGS 84",6378137,298.257223563,LENGTHUNIT["metre",1]],` +
	`ENSEMBLEACCURACY[2.0]],` +
	`PRIMEM["Greenwich",0,ANGLEUNIT["degree",0.0174532925199433]],` +
	`ID["EPSG",4326]],` +
	`CONVERSION["UTM zone %[1]d%[2]s",` +
	`METHOD["Transverse Mercator",ID["EPSG",9807]],` +
	`PARAMETER["Latitude of natural origin",0,ANGLEUNIT["degree",0.0174532925199433],ID["EPSG",8801]],` +
	`PARAMETER["Longitude of natural origin",%[3]d,ANGLEUNIT["degree",0.0174532925199433],ID["EPSG",8802]],` +
	`PARAMETER["Scale factor at natural origin",0.9996,SCALEUNIT["unity",1],ID["EPSG",8805]],` +
	`PARAMETER["False easting",500000,LENGTHUNIT["metre",1],ID["EPSG",8806]],` +
	`PARAMETER["False northing",%[4]d,LENGTHUNIT["metre",1],ID["EPSG",8807]]],` +
	`CS[Cartesian,2],` +
	`AXIS["(E)",east,ORDER[1],LENGTHUNIT["metre",1]],` +
	`AXIS["(N)",north,ORDER[2],LENGTHUNIT["metre",1]],` +
	`ID["EPSG",%[5]d]]`
