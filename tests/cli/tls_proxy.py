"""Ends TLS in front of a plain server: tls_proxy.py CERTIFICATE KEY PORT. Prints its own port. For tests."""
import socket
import ssl
import sys
import threading


def copy(source, sink):
    try:
        while data := source.recv(65536):
            sink.sendall(data)
    except OSError:
        pass
    for end in (source, sink):
        try:
            end.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass


def serve(raw, context, port):
    try:
        outside = context.wrap_socket(raw, server_side=True)
        inside = socket.create_connection(("127.0.0.1", port), timeout=10)
    except OSError:
        raw.close()
        return
    inside.settimeout(None)
    threading.Thread(target=copy, args=(inside, outside), daemon=True).start()
    copy(outside, inside)


def main():
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.load_cert_chain(sys.argv[1], sys.argv[2])
    listener = socket.create_server(("127.0.0.1", 0))
    print(listener.getsockname()[1], flush=True)
    while True:
        raw, _ = listener.accept()
        threading.Thread(target=serve, args=(raw, context, int(sys.argv[3])), daemon=True).start()


main()
