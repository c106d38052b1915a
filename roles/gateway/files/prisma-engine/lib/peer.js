'use strict';

/**
 * Who is at the other end of a loopback connection.
 *
 * Whoever reaches the engine's port can run SQL as the gateway, and prisma-client-py sends no credential that could
 * be checked. But Linux knows the user behind every socket of this host, so other users can be turned away.
 */

const fs = require('node:fs');

const TABLES = ['/proc/self/net/tcp', '/proc/self/net/tcp6'];
const ESTABLISHED = '01';
const ROOT = 0;

/**
 * @param {string} table text of /proc/net/tcp
 * @param {{clientPort: number, serverPort: number}} ports
 * @returns {number | undefined} user id of the process that holds the client's end
 */
function ownerOf(table, { clientPort, serverPort }) {
  const portOf = (address) => parseInt(address.slice(address.lastIndexOf(':') + 1), 16);
  for (const line of table.split('\n').slice(1)) {
    const [, local, remote, state, , , , uid] = line.trim().split(/\s+/);
    if (state === ESTABLISHED && portOf(local) === clientPort && portOf(remote) === serverPort) return Number(uid);
  }
  return undefined;
}

/** Chunk by chunk: these files name no size, and node 18's readFile then stops after the first page. */
async function readTable(file) {
  let text = '';
  try {
    for await (const chunk of fs.createReadStream(file, 'utf8')) text += chunk;
  } catch (error) {
    if (error.code !== 'ENOENT') throw error; // no tcp6 on hosts without IPv6
  }
  return text;
}

/**
 * @param {import('node:net').Socket} socket an accepted loopback connection
 * @returns {Promise<boolean>} whether it comes from this process's own user or from root
 */
async function isOwnUser(socket) {
  const ports = { clientPort: socket.remotePort, serverPort: socket.localPort };
  for (const file of TABLES) {
    const owner = ownerOf(await readTable(file), ports);
    if (owner !== undefined) return owner === process.getuid() || owner === ROOT;
  }
  return false;
}

module.exports = { isOwnUser, ownerOf };
