/* Reads with JHDF5: FILE SPARSE STRINGS DATASET... */
import ch.systemsx.cisd.hdf5.HDF5Factory;
import ch.systemsx.cisd.hdf5.IHDF5Reader;

public class ReadJhdf5 {
    public static void main(String[] args) throws Exception {
        IHDF5Reader file = HDF5Factory.openForReading(args[0]);
        for (int i = 3; i < args.length; i++) {
            String name = "/" + args[i];
            Object values;
            if (name.endsWith("f4")) values = file.float32().readMDArray(name).getAsFlatArray();
            else if (name.endsWith("f8")) values = file.float64().readMDArray(name).getAsFlatArray();
            else if (name.endsWith("u1")) values = file.uint8().readMDArray(name).getAsFlatArray();
            else if (name.endsWith("i2")) values = file.int16().readMDArray(name).getAsFlatArray();
            else if (name.endsWith("img")) values = file.uint16().readMDArray(name).getAsFlatArray();
            else values = file.int32().readMDArray(name).getAsFlatArray();
            System.out.println("dataset " + args[i] + " " + Digest.ofArray(values));
        }
        for (String at : new String[] {"/", "/img"}) {
            for (String name : new String[] {"text", "long"}) {
                String text = file.string().getAttr(at, name);
                System.out.println("text " + at + " " + name + " " + Digest.of(text.getBytes("UTF-8")));
            }
            long[] list = file.int64().getArrayAttr(at, "ints");
            System.out.println("numbers " + at + " " + file.int64().getAttr(at, "int") + " "
                + list[0] + "," + list[1] + "," + list[2] + " " + file.float64().getAttr(at, "float"));
        }
        String[] texts = HDF5Factory.openForReading(args[2]).string().readArray("/words");
        System.out.println("strings " + Digest.of(String.join("\n", texts).getBytes("UTF-8")));
        IHDF5Reader sparse = HDF5Factory.openForReading(args[1]);
        for (long at : new long[] {0, 63999}) {
            System.out.println("element " + sparse.uint16().readMDArrayBlockWithOffset(
                "/sparse", new int[] {1, 1, 1}, new long[] {at, at, at}).getAsFlatArray()[0]);
        }
        System.exit(0);
    }
}
