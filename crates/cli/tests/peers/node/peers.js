// Sends many small messages to a longlived server with grpc-js, and says whether each was answered.
//
//     node peers.js HOST:PORT MESSAGES
//
// Messages are written and read by field number, so that nothing has to be generated.
"use strict";

const grpc = require("@grpc/grpc-js");

const PUBLISH_STREAM = "/longlived.v1.PublishService/PublishStream";
const BULK_PUBLISH = "/longlived.v1.PublishService/BulkPublish";
const SESSION = "/longlived.v1.SubscriptionService/Session";
const TIMEOUT_MS = 600_000;
// Of the oneof of SubscribeResponse.
const EVENT = 1;
const WELCOME = 2;

const asIs = (bytes) => bytes;
const deadline = () => ({ deadline: Date.now() + TIMEOUT_MS });

// A length-delimited field. All that is written here is shorter than 128 bytes.
function field(number, ...contents) {
  const content = Buffer.concat(contents.map((one) => Buffer.from(one)));
  return Buffer.concat([Buffer.from([(number << 3) | 2, content.length]), content]);
}

// A PublishRequest with a payload of 20 bytes.
function message(number) {
  return Buffer.concat([field(1, "peers.t"), field(2, String(number).padStart(20, "0"))]);
}

// A SessionRequest after the first: mostly for a Progress, at times one that waits for the log.
function request(number) {
  if (number % 1000 === 0) return field(2, field(1, "other"));
  if (number % 1000 === 500) return field(3, "other");
  return Buffer.from([4 << 3, 1]);
}

// The first field of a BulkPublishResponse.
function published(response) {
  if (response[0] !== 1 << 3) return 0;
  let count = 0;
  for (let at = 1, scale = 1; at < response.length; at += 1, scale *= 128) {
    count += (response[at] & 0x7f) * scale;
    if (response[at] < 0x80) break;
  }
  return count;
}

// One after the other, as the call has room for them.
async function writeAll(call, count, make) {
  for (let number = 0; number < count; number += 1) {
    if (!call.write(make(number))) await new Promise((drained) => call.once("drain", drained));
  }
}

// All of them are handed over at once, before the first can be sent: the client does not pace itself.
function publishStream(client, messages) {
  return publishOn(client, messages, async (call) => {
    for (let number = 0; number < messages; number += 1) call.write(message(number));
  });
}

function publishOn(client, messages, write) {
  return new Promise((resolve, reject) => {
    const call = client.makeBidiStreamRequest(PUBLISH_STREAM, asIs, asIs, new grpc.Metadata(), deadline());
    let answers = 0;
    call.on("data", () => (answers += 1));
    call.on("error", (error) => reject(new Error(`after ${answers} answers: ${error.message}`)));
    call.on("end", () => {
      if (answers === messages) resolve();
      else reject(new Error(`${answers} answers to ${messages} messages`));
    });
    write(call).then(() => call.end(), reject);
  });
}

function bulkPublish(client, messages) {
  return new Promise((resolve, reject) => {
    const answered = (error, response) => {
      if (error) reject(error);
      else if (published(response) === messages) resolve();
      else reject(new Error(`${published(response)} of ${messages} are published`));
    };
    const call = client.makeClientStreamRequest(BULK_PUBLISH, asIs, asIs, new grpc.Metadata(), deadline(), answered);
    writeAll(call, messages, message).then(() => call.end(), reject);
  });
}

// A session asks as often as its connection publishes: every event and every answer comes.
function session(client, messages) {
  return new Promise((resolve, reject) => {
    const call = client.makeBidiStreamRequest(SESSION, asIs, asIs, new grpc.Metadata(), deadline());
    let publishing;
    let events = 0;
    let answers = 0;
    call.on("error", (error) => reject(new Error(`after ${events} events, ${answers} answers: ${error.message}`)));
    call.on("data", (response) => {
      const kind = response[0] >> 3;
      if (kind === WELCOME) {
        publishing = publishOn(client, messages, (publisher) => writeAll(publisher, messages, message));
        publishing.catch(reject);
        writeAll(call, messages, request).catch(reject);
      } else if (kind === EVENT) events += 1;
      else answers += 1;
      if (events >= messages && answers >= messages) {
        call.end();
        publishing.then(resolve, reject);
      }
    });
    call.write(field(1, field(1, `peer-node-${process.pid}`), field(2, field(1, "peers.>"))));
  });
}

async function main(address, messages) {
  const scenarios = { PublishStream: publishStream, BulkPublish: bulkPublish, Session: session };
  for (const [name, run] of Object.entries(scenarios)) {
    const since = Date.now();
    const client = new grpc.Client(address, grpc.credentials.createInsecure());
    try {
      await run(client, messages);
    } catch (error) {
      console.log(`FAIL grpc-js ${name}: ${error.message}`);
      process.exit(1);
    }
    client.close();
    console.log(`ok grpc-js ${name}: ${messages} in ${((Date.now() - since) / 1000).toFixed(1)} s`);
  }
  process.exit(0);
}

main(process.argv[2], Number(process.argv[3]));
