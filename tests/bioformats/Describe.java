/* What Bio-Formats reads from files: one line a fact, and a checksum of every plane,
   or of planes of more than 2^26 pixels the first byte of the last pixel.
   java -cp bioformats_package.jar Describe.java FILE... */
import java.util.zip.CRC32;
import loci.common.services.ServiceFactory;
import loci.formats.ImageReader;
import loci.formats.meta.IMetadata;
import loci.formats.services.OMEXMLService;
import ome.units.quantity.Length;
import ome.xml.model.primitives.Color;

public class Describe {
    static String length(Length l) {
        return l == null ? "none" : l.value() + " " + l.unit().getSymbol();
    }

    public static void main(String[] files) throws Exception {
        for (String file : files) {
            System.out.println("file " + file);
            describe(file);
        }
    }

    static void describe(String file) throws Exception {
        IMetadata meta = new ServiceFactory().getInstance(OMEXMLService.class).createOMEXMLMetadata();
        try (ImageReader reader = new ImageReader()) {
            reader.setMetadataStore(meta);
            reader.setFlattenedResolutions(false);
            reader.setId(file);
            System.out.println("reader " + reader.getReader().getClass().getSimpleName());
            System.out.println("series " + reader.getSeriesCount());
            System.out.println("name " + meta.getImageName(0));
            System.out.println("size x " + length(meta.getPixelsPhysicalSizeX(0)));
            System.out.println("size y " + length(meta.getPixelsPhysicalSizeY(0)));
            System.out.println("size z " + length(meta.getPixelsPhysicalSizeZ(0)));
            System.out.println("interval " + (meta.getPixelsTimeIncrement(0) == null ? "none"
                : meta.getPixelsTimeIncrement(0).value() + " " + meta.getPixelsTimeIncrement(0).unit().getSymbol()));
            System.out.println("rgb " + reader.isRGB() + " " + reader.getRGBChannelCount());
            for (int c = 0; c < meta.getChannelCount(0); c++) {
                Color k = meta.getChannelColor(0, c);
                System.out.println("channel " + meta.getChannelName(0, c) + " "
                    + (k == null ? "none" : k.getRed() + "," + k.getGreen() + "," + k.getBlue()));
            }
            for (int r = 0; r < reader.getResolutionCount(); r++) {
                reader.setResolution(r);
                System.out.println("resolution " + reader.getSizeX() + " " + reader.getSizeY() + " "
                    + reader.getSizeZ() + " " + reader.getSizeC() + " " + reader.getSizeT() + " tile "
                    + reader.getOptimalTileWidth() + "x" + reader.getOptimalTileHeight());
                if ((long) reader.getSizeX() * reader.getSizeY() > 1 << 26) {
                    byte[] last = reader.openBytes(0, reader.getSizeX() - 1, reader.getSizeY() - 1, 1, 1);
                    System.out.println("corner " + r + " " + (last[0] & 255));
                    continue;
                }
                for (int p = 0; p < reader.getImageCount(); p++) {
                    int[] zct = reader.getZCTCoords(p);
                    System.out.println("plane " + r + " " + zct[2] + " " + zct[0] + " " + zct[1] + " "
                        + sum(reader.openBytes(p)));
                }
            }
        }
    }

    static long sum(byte[] bytes) {
        CRC32 crc = new CRC32();
        crc.update(bytes);
        return crc.getValue();
    }
}
