'use strict'
// Applications: create, get, list, update, delete. The SDK sends them to a host of its own; sdk.js turns them here.

const assert = require('node:assert/strict')
const test = require('node:test')
const { client, freshPowerpack, refused } = require('./sdk.js')

test('created, read, changed, listed, deleted', async () => {
  const made = await client.applications.create('node-app', {
    messageUrl: 'https://example.com/inbound/',
    messageMethod: 'GET',
  })
  assert.equal(made.message, 'created')
  assert.match(made.appId, /^[0-9]+$/)

  const application = await client.applications.get(made.appId)
  assert.equal(application.appName, 'node-app')
  // The SDK's objects have no messageUrl.
  assert.equal(application.messageMethod, 'GET')

  assert.equal((await client.applications.update(made.appId, { messageMethod: 'POST' })).message, 'changed')
  assert.equal((await client.applications.get(made.appId)).messageMethod, 'POST')

  const listed = await client.applications.list({ limit: 20, offset: 0 })
  assert.ok(listed.some((each) => each.appId === made.appId))

  await client.applications.delete(made.appId)
  await refused(client.applications.get(made.appId), 404, /not found|no such/)
})

test('a powerpack hears of it', async () => {
  const made = await client.applications.create('node-app-of-a-powerpack')
  const powerpack = await freshPowerpack({ application_type: 'xml', application_id: made.appId })
  assert.equal(powerpack.applicationId, made.appId)
  await client.applications.delete(made.appId)
  await powerpack.delete()
})
