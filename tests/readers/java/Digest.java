/* SHA-256 of the little-endian bytes of arrays. */
import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.security.MessageDigest;

public class Digest {
    static String of(byte[] data) throws Exception {
        StringBuilder out = new StringBuilder();
        for (byte b : MessageDigest.getInstance("SHA-256").digest(data)) {
            out.append(String.format("%02x", b));
        }
        return out.toString();
    }

    /* Of a Java array of any number type. */
    static String ofArray(Object values) throws Exception {
        if (values instanceof byte[]) {
            return of((byte[]) values);
        }
        int n = java.lang.reflect.Array.getLength(values);
        ByteBuffer out = ByteBuffer.allocate(8 * n).order(ByteOrder.LITTLE_ENDIAN);
        for (int i = 0; i < n; i++) {
            if (values instanceof short[]) out.putShort(((short[]) values)[i]);
            else if (values instanceof int[]) out.putInt(((int[]) values)[i]);
            else if (values instanceof long[]) out.putLong(((long[]) values)[i]);
            else if (values instanceof float[]) out.putFloat(((float[]) values)[i]);
            else out.putDouble(((double[]) values)[i]);
        }
        return of(java.util.Arrays.copyOf(out.array(), out.position()));
    }
}
