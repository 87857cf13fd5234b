// A device that is not the CPU, for tests on machines without one: memory of its own kind, and
// every operation done by the CPU on copies. As on a GPU, tensors of both kinds in one operation
// are an error, and so is a generator of the CPU. Counts how often a program waits for a value.
#include <ATen/CPUGeneratorImpl.h>
#include <ATen/EmptyTensor.h>
#include <ATen/autocast_mode.h>
#include <ATen/detail/PrivateUse1HooksInterface.h>
#include <ATen/native/CPUFallback.h>
#include <ATen/native/Resize.h>
#include <ATen/ops/as_strided_native.h>
#include <ATen/ops/set_native.h>
#include <ATen/ops/view_native.h>
#include <ATen/ops/_reshape_alias_native.h>
#include <ATen/ops/resize_native.h>
#include <ATen/ops/set.h>
#include <ATen/ops/from_blob.h>
#include <c10/core/impl/alloc_cpu.h>
#include <c10/core/CachingDeviceAllocator.h>
#include <c10/core/impl/DeviceGuardImplInterface.h>
#include <torch/library.h>

#include <set>
#include <string>

namespace {

constexpr auto KIND = c10::DeviceType::PrivateUse1;
constexpr auto KEY = c10::DispatchKey::PrivateUse1;
int64_t waits = 0;
bool working = false;  // on copies that a GPU would not make

struct Guard final : c10::impl::NoOpDeviceGuardImpl<KIND> {
  c10::Stream getStream(c10::Device device) const noexcept override {
    return c10::Stream(c10::Stream::DEFAULT, device);
  }
  c10::Stream exchangeStream(c10::Stream stream) const noexcept override { return stream; }
  void record(void**, const c10::Stream&, c10::DeviceIndex, c10::EventFlag) const override {}
  void block(void*, const c10::Stream&) const override {}
  bool queryEvent(void*) const override { return true; }
  void destroyEvent(void*, c10::DeviceIndex) const noexcept override {}
};
C10_REGISTER_GUARD_IMPL(PrivateUse1, Guard)

struct Memory final : c10::Allocator {
  static void release(void* data) { c10::free_cpu(data); }
  c10::DataPtr allocate(size_t bytes) override {
    void* data = bytes ? c10::alloc_cpu(bytes) : nullptr;
    return {data, data, &release, c10::Device(KIND, 0)};
  }
  c10::DeleterFnPtr raw_deleter() const override { return &release; }
  void copy_data(void* to, const void* from, size_t bytes) const override {
    memcpy(to, from, bytes);
  }
} memory;
REGISTER_ALLOCATOR(KIND, &memory)

struct Generator final : at::CPUGeneratorImpl {
  Generator() {
    device_ = c10::Device(KIND, 0);
    key_set_ = c10::DispatchKeySet(KEY);
  }
};

struct Hooks final : at::PrivateUse1HooksInterface {
  bool isBuilt() const override { return true; }
  bool isAvailable() const override { return true; }
  bool hasPrimaryContext(c10::DeviceIndex) const override { return true; }
  at::Generator getNewGenerator(c10::DeviceIndex) const override {
    return at::make_generator<Generator>();
  }
} hooks;
const bool registered = (at::RegisterPrivateUse1HooksInterface(&hooks), true);

at::Tensor on_cpu(const at::Tensor& x) {  // the same memory
  if (!x.defined() || x.device().type() != KIND) return x;
  const auto options = x.options().device(at::kCPU).requires_grad(false);
  return at::from_blob(x.data_ptr(), x.sizes(), x.strides(), options);
}

using Type = std::optional<at::ScalarType>;
using Layout = std::optional<at::Layout>;
using Device = std::optional<at::Device>;
using Format = std::optional<at::MemoryFormat>;

at::Tensor empty(c10::IntArrayRef size, Type type, Layout, Device, std::optional<bool>, Format format) {
  const auto dtype = c10::dtype_or_default(type);
  return at::detail::empty_generic(size, &memory, c10::DispatchKeySet(KEY), dtype, format);
}

at::Tensor empty_strided(c10::IntArrayRef size, c10::IntArrayRef stride, Type type, Layout, Device,
                         std::optional<bool>) {
  const auto dtype = c10::dtype_or_default(type);
  return at::detail::empty_strided_generic(size, stride, &memory, c10::DispatchKeySet(KEY), dtype);
}

at::Tensor copy_from(const at::Tensor& self, const at::Tensor& dst, bool) {
  if (self.device().type() == KIND && dst.device().type() != KIND && !working) ++waits;
  on_cpu(dst).copy_(on_cpu(self));
  return dst;
}

at::Tensor copy_from_and_resize(const at::Tensor& self, const at::Tensor& dst) {
  at::native::resize_(dst, self.sizes(), std::nullopt);
  on_cpu(dst).copy_(on_cpu(self));
  return dst;
}

at::Scalar local_scalar_dense(const at::Tensor& self) {
  ++waits;
  return on_cpu(self).item();
}

at::Tensor& set_storage(at::Tensor& self, at::Storage source, int64_t offset, c10::IntArrayRef size,
                        c10::IntArrayRef stride) {
  at::TensorImpl* to = self.unsafeGetTensorImpl();
  to->set_storage_keep_dtype(std::move(source));
  to->set_storage_offset(offset);
  const bool dense = stride.empty() && !size.empty();
  at::native::resize_impl_cpu_(to, size, dense ? at::OptionalIntArrayRef() : at::OptionalIntArrayRef(stride));
  return self;
}

at::Tensor& set_whole_storage(at::Tensor& self, at::Storage source) {
  const auto n = static_cast<int64_t>(source.nbytes() / self.dtype().itemsize());
  return set_storage(self, std::move(source), 0, n, {});
}

at::Tensor& set_tensor(at::Tensor& self, const at::Tensor& source) {
  return at::native::set_tensor_(self, source);
}

at::Tensor as_strided(const at::Tensor& self, c10::IntArrayRef size, c10::IntArrayRef stride,
                      std::optional<int64_t> offset) {
  return at::native::as_strided_tensorimpl(self, size, stride, offset);
}

at::Tensor view(const at::Tensor& self, c10::IntArrayRef size) {
  return at::native::view(self, size);
}

at::Tensor reshape_alias(const at::Tensor& self, c10::IntArrayRef size, c10::IntArrayRef stride) {
  return at::native::_reshape_alias(self, size, stride);
}

const at::Tensor& resize(const at::Tensor& self, c10::IntArrayRef size, Format format) {
  return at::native::resize_(self, size, format);
}

// Operations that take indices from the CPU, and those that must know values before they end.
const std::set<std::string> MIXED = {"aten::index", "aten::index_put", "aten::index_put_",
                                     "aten::_index_put_impl_"};
const std::set<std::string> WAITING = {
    "aten::nonzero", "aten::masked_select", "aten::equal", "aten::unique_dim", "aten::_unique2",
    "aten::unique_consecutive", "aten::repeat_interleave", "aten::is_nonzero"};

void refuse(const c10::IValue& value, const std::string& name) {
  if (value.isTensor()) {
    const at::Tensor& x = value.toTensor();
    TORCH_CHECK(!x.defined() || x.dim() == 0 || x.device().type() == KIND, name,
                ": all tensors should be on one device, here one of ", x.sizes(), " is on ", x.device());
  } else if (value.isTensorList() || value.isOptionalTensorList() || value.isList()) {
    for (const c10::IValue& one : value.toListRef()) refuse(one, name);
  }
}

void fallback(const c10::OperatorHandle& op, torch::jit::Stack* stack) {
  const std::string name = op.schema().name();
  const size_t n = op.schema().arguments().size();
  for (const c10::IValue& value : torch::jit::last(*stack, n)) {
    if (!MIXED.count(name)) refuse(value, name);
    TORCH_CHECK(!value.isGenerator() || value.toGenerator().device().type() != at::kCPU,
                name, ": the generator is one of the CPU");
  }
  const bool told = name == "aten::repeat_interleave" && !stack->back().isNone();  // output_size
  if (WAITING.count(name) && !told) ++waits;
  std::optional<at::Generator> own, of_cpu;
  for (size_t i = stack->size() - n; i < stack->size(); ++i) {
    if (!(*stack)[i].isGenerator()) continue;
    own = (*stack)[i].toGenerator();
    of_cpu = at::detail::createCPUGenerator();
    of_cpu->set_state(own->get_state());
    (*stack)[i] = *of_cpu;
  }
  const bool outer = std::exchange(working, true);
  at::native::cpu_fallback(op, stack);
  working = outer;
  if (own) own->set_state(of_cpu->get_state());
}

int64_t take_waits() { return std::exchange(waits, 0); }

TORCH_LIBRARY_IMPL(aten, PrivateUse1, m) {
  m.impl("empty.memory_format", &empty);
  m.impl("empty_strided", &empty_strided);
  m.impl("_copy_from", &copy_from);
  m.impl("_copy_from_and_resize", &copy_from_and_resize);
  m.impl("_local_scalar_dense", &local_scalar_dense);
  m.impl("set_.source_Storage_storage_offset", &set_storage);
  m.impl("set_.source_Storage", &set_whole_storage);
  m.impl("set_.source_Tensor", &set_tensor);
  m.impl("as_strided", &as_strided);
  m.impl("view", &view);
  m.impl("_reshape_alias", &reshape_alias);
  m.impl("resize_", &resize);
}
TORCH_LIBRARY_IMPL(_, PrivateUse1, m) { m.fallback(torch::CppFunction::makeFromBoxedFunction<&fallback>()); }
TORCH_LIBRARY_IMPL(_, AutocastPrivateUse1, m) { m.fallback(torch::CppFunction::makeFallthrough()); }
TORCH_LIBRARY_IMPL(aten, AutocastPrivateUse1, m) {
  KERNEL_PRIVATEUSEONE(linear, lower_precision_fp)
  KERNEL_PRIVATEUSEONE(matmul, lower_precision_fp)
  KERNEL_PRIVATEUSEONE(layer_norm, fp32)
}
TORCH_LIBRARY(pretended, m) { m.def("take_waits", &take_waits); }

}  // namespace
