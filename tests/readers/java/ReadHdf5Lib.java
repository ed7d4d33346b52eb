/* Reads with the HDF Group's own Java binding: FILE SPARSE STRINGS DATASET... */
import hdf.hdf5lib.H5;
import hdf.hdf5lib.HDF5Constants;

public class ReadHdf5Lib {
    static final int ALL = HDF5Constants.H5S_ALL;
    static final long DEFAULT = HDF5Constants.H5P_DEFAULT;

    /* Each of the two calls is broken in some version: 1.10.8 lacks the one, in 1.10.10 the other fails. */
    static void readText(long attribute, String[] into) throws Exception {
        try {
            H5.H5Aread_VLStrings(attribute, H5.H5Aget_type(attribute), into);
        } catch (UnsatisfiedLinkError missing) {
            H5.H5AreadVL(attribute, H5.H5Aget_type(attribute), into);
        }
    }

    public static void main(String[] args) throws Exception {
        int[] version = new int[3];
        H5.H5get_libversion(version);
        System.out.println("version " + version[0] + "." + version[1] + "." + version[2]);
        long file = H5.H5Fopen(args[0], HDF5Constants.H5F_ACC_RDONLY, DEFAULT);
        for (int i = 3; i < args.length; i++) {
            long dataset = H5.H5Dopen(file, args[i], DEFAULT);
            long type = H5.H5Dget_type(dataset);
            long count = H5.H5Sget_simple_extent_npoints(H5.H5Dget_space(dataset));
            byte[] data = new byte[(int) (count * H5.H5Tget_size(type))];
            H5.H5Dread(dataset, type, ALL, ALL, DEFAULT, data);
            System.out.println("dataset " + args[i] + " " + Digest.of(data));
        }
        for (String at : new String[] {"/", "/img"}) {
            for (String name : new String[] {"text", "long"}) {
                long attribute = H5.H5Aopen_by_name(file, at, name, DEFAULT, DEFAULT);
                String[] text = new String[1];
                readText(attribute, text);
                System.out.println("text " + at + " " + name + " " + Digest.of(text[0].getBytes("UTF-8")));
            }
            long[] one = new long[1];
            long attribute = H5.H5Aopen_by_name(file, at, "int", DEFAULT, DEFAULT);
            H5.H5Aread(attribute, H5.H5Aget_type(attribute), one);
            long[] list = new long[3];
            attribute = H5.H5Aopen_by_name(file, at, "ints", DEFAULT, DEFAULT);
            H5.H5Aread(attribute, H5.H5Aget_type(attribute), list);
            double[] real = new double[1];
            attribute = H5.H5Aopen_by_name(file, at, "float", DEFAULT, DEFAULT);
            H5.H5Aread(attribute, H5.H5Aget_type(attribute), real);
            System.out.println("numbers " + at + " " + one[0] + " " + list[0] + "," + list[1] + "," + list[2]
                + " " + real[0]);
        }
        long words = H5.H5Dopen(H5.H5Fopen(args[2], HDF5Constants.H5F_ACC_RDONLY, DEFAULT), "words", DEFAULT);
        String[] texts = new String[(int) H5.H5Sget_simple_extent_npoints(H5.H5Dget_space(words))];
        H5.H5Dread_VLStrings(words, H5.H5Dget_type(words), ALL, ALL, DEFAULT, texts);
        System.out.println("strings " + Digest.of(String.join("\n", texts).getBytes("UTF-8")));
        long sparse = H5.H5Dopen(H5.H5Fopen(args[1], HDF5Constants.H5F_ACC_RDONLY, DEFAULT), "sparse", DEFAULT);
        long space = H5.H5Dget_space(sparse);
        long memory = H5.H5Screate_simple(3, new long[] {1, 1, 1}, null);
        for (long at : new long[] {0, 63999}) {
            H5.H5Sselect_hyperslab(space, HDF5Constants.H5S_SELECT_SET, new long[] {at, at, at}, null,
                new long[] {1, 1, 1}, null);
            byte[] value = new byte[2];
            H5.H5Dread(sparse, H5.H5Dget_type(sparse), memory, space, DEFAULT, value);
            System.out.println("element " + value[0]);
        }
    }
}
