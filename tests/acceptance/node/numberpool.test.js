'use strict'
// The numbers of a powerpack, by the methods of Powerpack and by the older interfaces of its number_pool.

const assert = require('node:assert/strict')
const test = require('node:test')
const { freshPowerpack, ours, refused } = require('./sdk.js')

test('long codes are added, found, listed, counted, removed', async () => {
  const powerpack = await freshPowerpack()
  const added = await powerpack.add_number('12025550102')
  assert.equal(added.number, '12025550102')
  assert.equal(added.type, 'fixed')
  assert.equal(added.numberPoolUuid, powerpack.number_pool_id)
  assert.equal((await powerpack.add_number('12025550103', 'sms')).service, 'sms')
  assert.equal((await powerpack.find_number('12025550102')).countryIso2, 'US')

  const listed = await powerpack.list_numbers({ starts_with: '202', country_iso2: 'US', type: 'fixed', limit: 1, offset: 1 })
  assert.equal(listed.meta.totalCount, 2)
  assert.deepEqual(listed.objects.map((each) => each.number), ['12025550103'])
  assert.equal(await powerpack.count_numbers({}), 2)
  assert.equal(await powerpack.count_numbers({ starts_with: '999', country_iso2: 'US' }), 0)
  assert.equal(await powerpack.count_numbers({ service: 'sms' }), 2)

  assert.equal((await powerpack.remove_number('12025550102')).response, 'success')
  await refused(powerpack.find_number('12025550102'), 404, /not found|no such/)
  assert.equal(await powerpack.count_numbers({}), 1)
  await powerpack.delete()
})

test('the older interface of numbers does the same', async () => {
  const powerpack = await freshPowerpack()
  const { numbers } = powerpack.number_pool
  assert.equal((await numbers.add('12025550104')).number, '12025550104')
  assert.equal((await numbers.find('12025550104')).number, '12025550104')
  assert.equal((await numbers.list({ limit: 5 })).objects.length, 1)
  assert.equal(await numbers.count({}), 1)
  assert.equal((await numbers.remove('12025550104')).response, 'success')
  assert.equal(await numbers.count({}), 0)
  await powerpack.delete()
})

test('one toll-free number', async () => {
  const powerpack = await freshPowerpack()
  assert.equal((await powerpack.add_tollfree('18005550100')).number, '18005550100')
  await refused(powerpack.add_tollfree('18335550100'), 400, /one toll-free/)
  assert.equal((await powerpack.find_tollfree('18005550100')).type, 'tollfree')
  assert.equal((await powerpack.find_tollfree('18005550100', 'sms')).number, '18005550100')
  assert.equal((await powerpack.list_tollfree()).objects.length, 1)
  assert.equal((await powerpack.list_tollfree({ limit: 1, offset: 1 })).objects.length, 0)
  assert.equal((await powerpack.remove_tollfree('18005550100')).response, 'success')

  const { tollfree } = powerpack.number_pool
  assert.equal((await tollfree.add('18005550100')).number, '18005550100')
  assert.equal((await tollfree.find('18005550100')).number, '18005550100')
  assert.equal((await tollfree.list()).objects.length, 1)
  assert.equal((await tollfree.remove('18005550100')).response, 'success')
  await powerpack.delete()
})

test('short codes, which only we can add', async () => {
  const powerpack = await freshPowerpack()
  await ours('POST', `NumberPool/${powerpack.number_pool_id}/Shortcode/22555/`)
  assert.equal((await powerpack.find_shortcode('22555')).countryIso2, 'US')
  assert.equal((await powerpack.find_shortcode('22555', 'sms')).numberPoolUuid, powerpack.number_pool_id)
  const listed = await powerpack.list_shortcodes({ limit: 5 })
  assert.equal(listed.objects[0].shortcode, '22555')
  assert.equal((await powerpack.remove_shortcode('22555')).response, 'success')

  await ours('POST', `NumberPool/${powerpack.number_pool_id}/Shortcode/22555/`)
  const { shortcodes } = powerpack.number_pool
  assert.equal((await shortcodes.find('22555')).shortcode, '22555')
  assert.equal((await shortcodes.list()).objects.length, 1)
  assert.equal((await shortcodes.remove('22555')).response, 'success')
  await powerpack.delete()
})

test('a number that is given up is nobody\'s any more', async () => {
  const powerpack = await freshPowerpack()
  await powerpack.add_number('12025550105')
  await powerpack.remove_number('12025550105', true)
  await refused(powerpack.add_number('12025550105'), 404, /not found|no such/)
  await powerpack.delete()
})

test('a number is in one powerpack', async () => {
  const one = await freshPowerpack()
  const other = await freshPowerpack()
  await one.add_number('12025550106')
  await refused(other.add_number('12025550106'), 409, /another powerpack/)
  await one.delete()
  assert.equal((await other.add_number('12025550106')).number, '12025550106')
  await other.delete()
})

test('a number is bought into the pool, the first that is found or one that is named', async () => {
  const powerpack = await freshPowerpack()
  const first = await powerpack.buy_add_number({ pattern: '212', country_iso2: 'US', type: 'local' })
  assert.match(first.number, /^1212/)
  const named = await powerpack.buy_add_number({ number: '12135550190' })
  assert.equal(named.number, '12135550190')
  assert.equal(await powerpack.count_numbers({}), 2)
  assert.equal((await powerpack.remove_number(first.number, true)).response, 'success')
  assert.equal((await powerpack.remove_number(named.number, true)).response, 'success')
  await powerpack.delete()
})
