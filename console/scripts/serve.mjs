// A build before a scheduler: TUTTI_SERVER=http://127.0.0.1:7070 npm run serve
import { makeServer } from "./server.mjs";

const server = makeServer({ upstream: process.env.TUTTI_SERVER ?? "http://127.0.0.1:7070" });
console.log(`${await server.listen(Number(process.env.PORT ?? 7080))}/console/`);
