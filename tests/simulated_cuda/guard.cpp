// The device that is current in each thread, which builds of torch for CPUs have no notion of.

#include <c10/core/impl/DeviceGuardImplInterface.h>

namespace {

using c10::Device;
using c10::DeviceType;
using c10::Stream;

struct Guard final : c10::impl::NoOpDeviceGuardImpl<DeviceType::CUDA> {
  static thread_local c10::DeviceIndex current;

  Device getDevice() const override { return Device(DeviceType::CUDA, current); }
  void setDevice(Device device) const override { uncheckedSetDevice(device); }
  void uncheckedSetDevice(Device device) const noexcept override {
    if (device.has_index()) current = device.index();
  }
  Device exchangeDevice(Device device) const override {
    const Device before = getDevice();
    uncheckedSetDevice(device);
    return before;
  }
  Stream getStream(Device device) const noexcept override { return Stream(Stream::DEFAULT, device); }
  Stream exchangeStream(Stream stream) const noexcept override { return stream; }
};

thread_local c10::DeviceIndex Guard::current = 0;

C10_REGISTER_GUARD_IMPL(CUDA, Guard);

}  // namespace
