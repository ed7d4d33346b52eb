/* Reads with netCDF-Java: FILE SPARSE STRINGS DATASET... */
import ucar.nc2.Attribute;
import ucar.nc2.NetcdfFile;
import ucar.nc2.Variable;

public class ReadNetcdf {
    public static void main(String[] args) throws Exception {
        NetcdfFile file = NetcdfFile.open(args[0]);
        for (int i = 3; i < args.length; i++) {
            Variable variable = file.findVariable(args[i]);
            System.out.println("dataset " + args[i] + " " + Digest.ofArray(variable.read().copyTo1DJavaArray()));
        }
        for (String at : new String[] {"/", "/img"}) {
            for (String name : new String[] {"text", "long"}) {
                System.out.println("text " + at + " " + name + " "
                    + Digest.of(attribute(file, at, name).getStringValue().getBytes("UTF-8")));
            }
            Attribute list = attribute(file, at, "ints");
            System.out.println("numbers " + at + " " + attribute(file, at, "int").getNumericValue() + " "
                + list.getNumericValue(0) + "," + list.getNumericValue(1) + "," + list.getNumericValue(2)
                + " " + attribute(file, at, "float").getNumericValue());
        }
        StringBuilder texts = new StringBuilder();
        for (Object text : (Object[]) NetcdfFile.open(args[2]).findVariable("words").read().copyTo1DJavaArray()) {
            texts.append(text).append("\n");
        }
        System.out.println("strings " + Digest.of(texts.substring(0, texts.length() - 1).getBytes("UTF-8")));
        Variable sparse = NetcdfFile.open(args[1]).findVariable("sparse");
        for (int at : new int[] {0, 63999}) {
            System.out.println("element "
                + sparse.read(new int[] {at, at, at}, new int[] {1, 1, 1}).getShort(0));
        }
    }

    static Attribute attribute(NetcdfFile file, String at, String name) {
        return at.equals("/") ? file.findGlobalAttribute(name) : file.findVariable("img").findAttribute(name);
    }
}
